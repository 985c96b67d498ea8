//! `uproar bench`: what the measurements are told of this program.

use uproar_bench::{Bench, DevAccess, Program};

use super::failure::Failure;
use crate::config::{DEV_ACCOUNT, DEV_KEY_ID, DEV_REGION, DEV_SECRET, dev_data_dir, keyring_path};
use crate::server::raise_descriptor_limit;

/// Measures a server, which is this program too unless a flag names another.
pub(super) fn run(bench: &Bench) -> Result<(), Failure> {
    raise_descriptor_limit();
    let executable = std::env::current_exe();
    let program = Program {
        executable: executable.map_err(|error| Failure::Run(format!("bench: {error}")))?,
        dev_data_dir: dev_data_dir(),
        keyring_path,
        dev: DevAccess {
            region: DEV_REGION,
            account: DEV_ACCOUNT,
            key_id: DEV_KEY_ID,
            secret: DEV_SECRET,
        },
    };
    bench.run(&program).map_err(|failure| match failure {
        uproar_bench::Failure::Usage(text) => Failure::Usage(text),
        uproar_bench::Failure::Measurement(error) => Failure::Run(format!("bench: {error}")),
    })
}
