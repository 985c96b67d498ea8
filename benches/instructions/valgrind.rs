//! This program, run by callgrind.

use std::path::Path;
use std::process::{Command, Output};

use crate::cases::Case;

/// What callgrind is told to count.
const COUNTED: &str = "*instructions::counted*";

pub(crate) fn output(command: &mut Command) -> Result<Output, String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{shown} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{shown} failed, {}:\n{said}", output.status))
}

/// This program under callgrind, which writes to `out`.
pub(crate) fn callgrind(
    out: &Path,
    options: &[&str],
    arguments: &[&str],
) -> Result<Output, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", &format!("--toggle-collect={COUNTED}")])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args(options)
        .arg(program)
        .args(arguments);
    output(&mut command)
}

/// Instructions of one operation.
pub(crate) fn count(case: &Case) -> Result<f64, String> {
    let output = callgrind(Path::new("/dev/null"), &[], &["--run", case.name])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected: u64 = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse().ok())
        .ok_or_else(|| format!("{}: callgrind names no count:\n{said}", case.name))?;
    let operations = f64::from(case.operations) * f64::from(case.calls.1);
    if collected == 0 {
        return Err(format!("{}: {COUNTED} was not found", case.name));
    }
    Ok(collected as f64 / operations)
}
