//! The thread that writes log lines: the only one that may wait for their reader.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use super::queue::Queue;
use uproar_proto::base::limits::LOG_LINE_INTERVAL;

/// Writes lines to `sink`, forever. Lines that cannot be written are counted, and reported by a line from
/// `lost_line`, as soon as one can be written again.
pub(super) struct Writer<W, S> {
    pub(super) sink: W,
    pub(super) lost_line: S,
    // Lost lines that were reported.
    reported: u64,
    // A line was cut off in the middle: the next one starts on a new line.
    is_torn: bool,
}

impl<W: Write, S: Fn(u64) -> Vec<u8>> Writer<W, S> {
    pub(super) fn new(sink: W, lost_line: S) -> Self {
        Self {
            sink,
            lost_line,
            reported: 0,
            is_torn: false,
        }
    }

    /// Runs until every sender is gone.
    pub(super) fn run(&mut self, lines: &Receiver<Vec<u8>>, queue: &Queue) {
        loop {
            let line = if queue.lost() == self.reported {
                lines.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                lines.recv_timeout(LOG_LINE_INTERVAL)
            };
            match line {
                Ok(line) => {
                    let loses = self
                        .write_losses(queue)
                        .and_then(|()| self.write(&line))
                        .is_err();
                    if loses {
                        queue.lose();
                    }
                    queue.done(line.len());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _tried_again = self.write_losses(queue);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reports lost lines before the next line, where they are missing.
    fn write_losses(&mut self, queue: &Queue) -> io::Result<()> {
        let lost = queue.lost();
        if lost == self.reported {
            return Ok(());
        }
        let line = (self.lost_line)(lost - self.reported);
        self.write(&line)?;
        self.reported = lost;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.sink.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut left = line;
        while !left.is_empty() {
            match self.sink.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    left = &left[len..];
                    self.is_torn = !left.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Accepts as many bytes of each write as its plan says, or none.
    struct Disk {
        plan: Vec<Option<usize>>,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.plan.pop() {
                Some(None) => Err(io::Error::from_raw_os_error(28)),
                Some(Some(len)) => {
                    let len = bytes.len().min(len.max(1));
                    self.written.extend_from_slice(&bytes[..len]);
                    Ok(len)
                }
                None => {
                    self.written.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        /// Goal: for any behaviour of the disk, each line is there whole or counted, and the count is reported.
        /// Method: a disk that takes parts and fails at random, then works again.
        #[test]
        fn a_line_is_written_whole_or_counted(plan in proptest::collection::vec(proptest::option::weighted(0.7, 1_usize..8), 0..60)) {
            let (queue, lines) = Queue::new();
            for number in 0..20 {
                queue.push(format!("line {number:02}.\n").into_bytes());
            }
            let disk = Disk { plan, written: Vec::new() };
            let mut writer = Writer::new(disk, |lost| format!("lost {lost}\n").into_bytes());
            for line in lines.try_iter() {
                if writer.write_losses(&queue).and_then(|()| writer.write(&line)).is_err() {
                    queue.lose();
                }
                queue.done(line.len());
            }
            writer.sink.plan.clear();
            writer.write_losses(&queue).expect("the disk works again");
            let text = String::from_utf8(writer.sink.written).expect("text");
            let whole = text.lines().filter(|line| (0..20).any(|number| *line == format!("line {number:02}."))).count();
            let reported: u64 = text.lines().filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok()).sum();
            // A line without its end counts as lost too.
            prop_assert!(whole as u64 + queue.lost() >= 20, "{text}");
            prop_assert!(queue.is_idle());
            // A line "lost N" may itself be cut off, and is then reported again.
            prop_assert!(reported >= queue.lost(), "{reported} of {}: {text}", queue.lost());
        }
    }
}
