//! Starts the log: the queue's thread, the subscriber, the panic hook.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload::Handle;

use super::queue::Queue;
use super::stderr::Stderr;
use super::text::{bounded, one_line};
use super::writer::Writer;
use uproar_proto::base::limits::{LOG_BACKTRACE_BYTES_MAX, LOG_FLUSH_MAX};

static QUEUE: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// Replaces the filter of the running log.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

thread_local! {
    // Lines that this thread captures instead of queueing them.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Starts logging to standard error, one event a line, and routes panics there.
///
/// # Errors
///
/// The filter's fault, or that no thread is available, in words.
pub(crate) fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(whole(filter)).map_err(|error| format!("log.filter: {error}"))?;
    let queue = queue().ok_or("no thread can be started to write the log")?;
    let colours = !json;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(Lines { queue, colours });
    let (outcome, set_filter) = if json {
        let builder = builder.json().flatten_event(true);
        let builder = builder.with_filter_reloading();
        let set_filter = setter(builder.reload_handle());
        (builder.try_init(), set_filter)
    } else {
        let builder = builder.with_filter_reloading();
        let set_filter = setter(builder.reload_handle());
        (builder.try_init(), set_filter)
    };
    outcome.map_err(|error| error.to_string())?;
    let _started_once = SET_FILTER.set(set_filter);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A filter of the configuration as it is used: of the brokers' client it lets warnings through, as its other lines say again
/// what ours say, unless it names it.
pub(crate) fn whole(filter: &str) -> String {
    if filter.contains("async_nats") {
        filter.to_owned()
    } else {
        format!("{filter},async_nats=warn")
    }
}

fn setter<S: 'static>(handle: Handle<EnvFilter, S>) -> SetFilter {
    Box::new(move |filter| {
        // An error would mean that the log has ended, which it does with the process.
        let _lives = handle.reload(filter);
    })
}

/// Lines are chosen by `filter` from now on. Does nothing before [`start`].
pub(crate) fn set_filter(filter: EnvFilter) {
    if let Some(set_filter) = SET_FILTER.get() {
        set_filter(filter);
    }
}

/// Writes `text` to standard error after the queued lines, and waits for it as [`flush`] does. For text that people
/// must read before the process ends.
pub(crate) fn print(text: &str) {
    match queue() {
        Some(queue) => {
            queue.push(text.as_bytes().to_vec());
            flush();
        }
        None => drop(Stderr.write_all(text.as_bytes())),
    }
}

/// Queues another process's line, its end included, as it is.
pub(crate) fn pass_on(line: &[u8]) {
    if let Some(queue) = queue() {
        queue.push(line.to_vec());
    }
}

/// Waits until every line was written or lost, at most [`LOG_FLUSH_MAX`]: a sleeping reader does not delay the
/// process's end.
pub(crate) fn flush() {
    let Some(Some(queue)) = QUEUE.get() else {
        return;
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the process ends: no loop has the time"
    )]
    let started = Instant::now();
    while !queue.is_idle() && started.elapsed() < LOG_FLUSH_MAX {
        std::thread::sleep(FLUSH_CHECK);
    }
}

/// Lines that could not be written.
pub(super) fn lost() -> u64 {
    let queue = QUEUE.get().and_then(Option::as_ref);
    queue.map_or(0, |queue| queue.lost())
}

/// The process's queue, with a thread that empties it; `None` if no thread is available.
fn queue() -> Option<Arc<Queue>> {
    let started = QUEUE.get_or_init(|| {
        let (queue, lines) = Queue::new();
        let queue = Arc::new(queue);
        let of_thread = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("log".to_owned());
        let spawned = thread.spawn(move || write_all(&lines, &of_thread));
        spawned.is_ok().then_some(queue)
    });
    started.clone()
}

/// Runs for the process's whole life: not even a bug of its own ends it.
fn write_all(lines: &Receiver<Vec<u8>>, queue: &Queue) {
    let mut writer = Writer::new(Stderr, lost_line);
    while catch_unwind(AssertUnwindSafe(|| writer.run(lines, queue))).is_err() {
        queue.lose();
    }
}

fn lost_line(lost: u64) -> Vec<u8> {
    capture(|| {
        tracing::warn!(
            lost,
            "log lines were lost: standard error did not take them"
        );
    })
}

/// The formatted lines that `log` logs, instead of queueing them; empty if the filter drops them.
fn capture(log: impl FnOnce()) -> Vec<u8> {
    CAPTURED.set(Some(Vec::new()));
    log();
    CAPTURED.take().unwrap_or_default()
}

/// Logs a panic as a line. It cannot fail, unlike the library's hook, which waits for the reader of standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let at = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let cause = panic.payload_as_str().unwrap_or("no text");
    let cause = &*bounded(cause);
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| {
        let mut text = trace.to_string();
        text.truncate(text.floor_char_boundary(LOG_BACKTRACE_BYTES_MAX));
        text
    });
    let backtrace = trace.as_deref();
    let mut line = capture(|| {
        tracing::error!(
            thread,
            at,
            cause,
            backtrace,
            "panicked: this is a bug, please report it"
        );
    });
    if line.is_empty() {
        // The panic was within a log line, or the filter drops even this one.
        line = one_line(
            format!("thread {thread} panicked at {at}: {cause}").as_bytes(),
            false,
        );
    }
    if let Some(queue) = queue() {
        queue.push(line);
    }
    flush();
}

/// Makes one [`Line`] per event.
struct Lines {
    queue: Arc<Queue>,
    colours: bool,
}

/// Collects one event's text, and queues it when it is dropped. Writing never fails.
struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            lines: self,
            text: Vec::new(),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = one_line(&self.text, self.lines.colours);
        CAPTURED.with_borrow_mut(|captured| match captured {
            Some(captured) => captured.extend_from_slice(&line),
            None => self.lines.queue.push(line),
        });
    }
}

/// Interval of the checks whether the queue is empty.
const FLUSH_CHECK: Duration = Duration::from_millis(2);
