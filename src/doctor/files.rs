//! Remedies as files: a sysctl drop-in and a systemd one, each line with its reason.

use super::{Finding, Remedy, Target};

/// Name of the sysctl drop-in.
pub(crate) const SYSCTL: &str = "90-uproar.conf";
/// Name of the systemd drop-in.
pub(crate) const LIMITS: &str = "limits.conf";

/// Names and texts of the files with the changes; none if no file can help.
pub(crate) fn files(findings: &[Finding], target: &Target) -> Vec<(&'static str, String)> {
    let head = |place: &str, load: &str| {
        format!(
            "# Made by `uproar doctor` for {} connections on {} shards. Belongs to\n# {place}\n# and is loaded by `{load}`.\n",
            target.connections, target.shards
        )
    };
    let mut kernel = String::new();
    let mut unit = String::new();
    for finding in findings {
        let (out, line) = match &finding.remedy {
            Some(Remedy::Sysctl { key, value }) => (&mut kernel, format!("{key} = {value}")),
            Some(Remedy::Unit { directive, value }) => (&mut unit, format!("{directive}={value}")),
            None => continue,
        };
        let Finding { reason, found, .. } = finding;
        out.extend(["\n# ", reason, "\n# (found: ", found, ")\n", &line, "\n"]);
    }
    let mut files = Vec::new();
    if !kernel.is_empty() {
        let head = head("/etc/sysctl.d/90-uproar.conf", "sysctl --system");
        files.push((SYSCTL, head + &kernel));
    }
    if !unit.is_empty() {
        let head = head(
            "/etc/systemd/system/uproar.service.d/limits.conf",
            "systemctl daemon-reload && systemctl restart uproar",
        );
        files.push((LIMITS, format!("{head}\n[Service]\n{unit}")));
    }
    files
}
