//! Faults on purpose, at named points of a take-over: how tests reach states that a fault leaves once in years.
//!
//! `UPROAR_TAKE_OVER_FAULT=POINT:ACTION`, several with `,` between, in the environment of the old process, which the new one inherits. It stays in
//! release builds, so that what is tested is what is shipped: who can set a process's environment can kill it, too, and
//! nothing looks at the variable but a take-over.
//!
//! | point | where |
//! |---|---|
//! | `old.load`, `old.freeze`, `old.rooms`, `old.viewers` | before a step of the old process; with `.done` behind it, after it |
//! | `old.commit` | before `Commit` is said; `.done`: after it |
//! | `new.rooms`, `new.viewers`, `new.acknowledge` | the same in the new process |
//! | `new.hello`, `new.start.done`, `new.serve` | before it greets, when it has started, before it serves |
//!
//! | action | effect |
//! |---|---|
//! | `kill`, `stop` | the process gets SIGKILL or SIGSTOP |
//! | `fail` | the step fails |
//! | `delay=MILLISECONDS` | the step waits |
//!
//! `hello:format=N`, `hello:schema=N` and `hello:lacks=FEATURE` make either process greet as another version would.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "UPROAR_TAKE_OVER_FAULT";

/// Does what the variable says about `point`; an error if the step is to fail.
pub(super) fn at(point: &str) -> Result<(), String> {
    let Some(action) = action_at(point) else {
        return Ok(());
    };
    tracing::warn!(point, action, "{VARIABLE}: a fault on purpose");
    crate::logging::flush();
    let signal = |signal| {
        let _this_process = kill_process(getpid(), signal);
    };
    match action.split_once('=').unwrap_or((&action, "")) {
        ("kill", _) => signal(Signal::KILL),
        ("stop", _) => signal(Signal::STOP),
        ("fail", _) => return Err(format!("{VARIABLE} lets {point} fail")),
        ("delay", millis) => {
            std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(0)));
        }
        _ => {}
    }
    Ok(())
}

/// The value of `name` that the variable gives a hello.
pub(super) fn hello(name: &str) -> Option<String> {
    let action = action_at("hello")?;
    let (key, value) = action.split_once('=')?;
    (key == name).then(|| value.to_owned())
}

fn action_at(point: &str) -> Option<String> {
    let variable = std::env::var(VARIABLE).ok()?;
    let faults = variable
        .split(',')
        .filter_map(|fault| fault.split_once(':'));
    let action = faults.into_iter().find(|(named, _)| *named == point);
    action.map(|(_, action)| action.to_owned())
}
