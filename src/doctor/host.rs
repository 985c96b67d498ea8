//! This machine as a [`Source`]; reads only.

use std::fs::{self, File};
use std::io::Read;

use super::facts::Source;

/// Longest text read from a file, in bytes: `limits`, `status` and `meminfo` have 1 to 2 KB.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// `/proc` and `/sys`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host;

impl Source for Host {
    fn text(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        let file = File::open(path).ok()?;
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}
