//! The hot functions and whole turns, each described once: `hot_path` times them, `instructions` counts
//! them.
//!
//! A case owns its data and is called repeatedly. Input that a function changes is copied anew within the
//! call; the copy is part of the figure, and the same in every run.

mod functions;
mod turns;

/// One call of a case.
pub(crate) type Call = Box<dyn FnMut()>;

/// A hot function or a whole turn.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its name on the command line and in the baseline.
    pub(crate) name: &'static str,
    /// Describes one operation.
    pub(crate) what: &'static str,
    /// Operations of one call.
    pub(crate) operations: u32,
    /// Calls before counting begins (tables and buffers have their size then), and counted calls.
    pub(crate) calls: (u32, u32),
    /// Makes the case.
    pub(crate) make: fn() -> Call,
}

/// Returns every case, from single functions to whole turns.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    functions::CASES.iter().chain(turns::CASES)
}

/// Returns the case of this name.
pub(crate) fn find(name: &str) -> Option<&'static Case> {
    all().find(|case| case.name == name)
}
