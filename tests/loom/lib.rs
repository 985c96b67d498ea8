//! Empty: the tests include the one source file they check.
