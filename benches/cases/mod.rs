//! The hot functions and whole turns, each described once: `hot_path` times them, `instructions` counts
//! them.
//!
//! A case owns what it works on and is called again and again. Input that a function changes is copied
//! afresh within the call; the copy is part of the figure, and the same in every run.

mod functions;
mod turns;
pub(crate) mod world;

/// One call of a case.
pub(crate) type Call = Box<dyn FnMut()>;

/// A hot function or a whole turn.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Names it on the command line and in the baseline.
    pub(crate) name: &'static str,
    /// What one operation is.
    pub(crate) what: &'static str,
    /// Operations of one call.
    pub(crate) operations: u32,
    /// Calls before counting begins (tables and buffers have their size then), and calls counted.
    pub(crate) calls: (u32, u32),
    /// Makes it.
    pub(crate) make: fn() -> Call,
}

/// Every case, from the single function to the whole turn.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    functions::CASES.iter().chain(turns::CASES)
}

/// The case of this name.
pub(crate) fn find(name: &str) -> Option<&'static Case> {
    all().find(|case| case.name == name)
}
