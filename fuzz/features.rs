//! Empty. That an example is asked for makes cargo give the dependencies the features that they have in tests,
//! so that `fuzz/run` finds them compiled.

fn main() {}
