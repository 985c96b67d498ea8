//! Whether deliveries run: they can be stopped between two requests, so that another process may go
//! on from the cursors.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use uproar_proto::base::limits::LOG_PAUSE_MAX;

/// Interval of the looks whether deliveries have stopped.
const LOOK: Duration = Duration::from_millis(1);

/// What deliveries do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// They run.
    Running,
    /// They finish the batch they have begun, and begin no other.
    Finishing,
    /// They stop before their next request; one that can be repeated is broken off.
    Held,
}

/// Stops and resumes all deliveries.
#[derive(Debug)]
pub(super) struct DeliveryHold {
    mode: watch::Sender<Mode>,
    // Deliveries that have begun something and not stopped since.
    busy: Rc<Cell<usize>>,
}

impl Default for DeliveryHold {
    fn default() -> Self {
        Self {
            mode: watch::Sender::new(Mode::Running),
            busy: Rc::default(),
        }
    }
}

impl DeliveryHold {
    /// Stops all deliveries: at the end of their batches if that is within [`LOG_PAUSE_MAX`], else
    /// between two requests. Requests that wait for an answer then are broken off, and repeated when
    /// deliveries go on, here or in another process: an object under the same key.
    ///
    /// # Errors
    ///
    /// A chat log's file is still being written after twice that time; deliveries go on.
    ///
    /// # Cancel safety
    ///
    /// Deliveries stay as they are then; [`DeliveryHold::resume`] makes them run.
    pub(super) async fn stop(&self) -> io::Result<()> {
        self.mode.send_replace(Mode::Finishing);
        self.until_stopped().await;
        self.mode.send_replace(Mode::Held);
        self.until_stopped().await;
        if self.busy.get() > 0 {
            self.resume();
            let what = "a file of the chat logs takes too long to write: look at the disk of logging.directory";
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        Ok(())
    }

    /// Deliveries go on.
    pub(super) fn resume(&self) {
        self.mode.send_replace(Mode::Running);
    }

    /// Whether they run.
    pub(super) fn is_running(&self) -> bool {
        *self.mode.borrow() == Mode::Running
    }

    /// One delivery's part of it; it rests at first.
    pub(super) fn work(&self) -> Work {
        Work {
            mode: self.mode.subscribe(),
            busy: Rc::clone(&self.busy),
            counted: false,
        }
    }

    async fn until_stopped(&self) {
        let deadline = Instant::now() + LOG_PAUSE_MAX;
        while self.busy.get() > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// One delivery: whether it may go on, and whether it has something in progress.
#[derive(Debug)]
pub(super) struct Work {
    mode: watch::Receiver<Mode>,
    busy: Rc<Cell<usize>>,
    counted: bool,
}

impl Work {
    /// Waits until a batch may be begun; the delivery is busy from then on.
    pub(super) async fn begin(&mut self) {
        self.rest();
        self.reached(|mode| mode == Mode::Running).await;
        self.count();
    }

    /// Waits until a request may be sent; the delivery is busy from then on.
    pub(super) async fn go_on(&mut self) {
        if *self.mode.borrow() == Mode::Held {
            self.begin().await;
        }
        self.count();
    }

    /// The delivery waits, and has nothing in progress.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.busy.set(self.busy.get() - 1);
        }
    }

    /// Ready once requests in progress are to be broken off.
    pub(super) async fn held(&mut self) {
        self.reached(|mode| mode == Mode::Held).await;
    }

    fn count(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.busy.set(self.busy.get() + 1);
        }
    }

    async fn reached(&mut self, wanted: impl Fn(Mode) -> bool) {
        let gone = self.mode.wait_for(|mode| wanted(*mode)).await.is_err();
        if gone {
            // The archive has ended, and this delivery with it.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.rest();
    }
}
