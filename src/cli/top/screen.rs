//! The terminal while it is ours: its other screen, no echo, no cursor. It is given back as it was, however this ends.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// To the alternate screen; the cursor is hidden.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back from it.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal; dropping it gives it back.
pub(super) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// Standard input or output is no terminal.
    pub(super) fn enter() -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            let message =
                "this is no terminal: --once prints one picture, --json a line each second";
            return Err(io::Error::other(message));
        }
        let before = tcgetattr(io::stdin())?;
        let mut ours = before.clone();
        ours.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &ours)?;
        let screen = Self { before };
        screen.write(ENTER)?;
        Ok(screen)
    }

    /// Columns and rows.
    #[expect(clippy::unused_self, reason = "only who has the terminal asks")]
    pub(super) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// Shows lines, which fit, in place of what was shown.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        // Each line clears what is left of the one before it, and the last all below: nothing flickers.
        let lines = lines.join("\x1b[K\r\n");
        self.write(&format!("\x1b[H{lines}\x1b[K\x1b[J"))
    }

    #[expect(clippy::unused_self, reason = "only who has the terminal writes so")]
    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone = self.write(LEAVE);
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
