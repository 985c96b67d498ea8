//! One request to a page on this machine.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ports::local;

/// A page that takes longer is of a process that is stopped.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Longer than any answer that is asked for, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Status and body.
///
/// # Errors
///
/// Nobody listens, or the answer is late or none.
pub(super) async fn get(port: u16, target: &str) -> io::Result<(u16, Vec<u8>)> {
    let answer = timeout(ANSWER_MAX, exchange(port, target)).await;
    let answer = answer.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer
        .split_at_checked(end.ok_or_else(broken)? + 4)
        .ok_or_else(broken)?;
    let status = String::from_utf8_lossy(head);
    let status = status
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(broken)?, body.to_vec()))
}

/// Whether the page answers 200.
pub(super) async fn answers_ok(port: u16, target: &str) -> bool {
    get(port, target)
        .await
        .is_ok_and(|(status, _)| status == 200)
}

async fn exchange(port: u16, target: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(local(port)).await?;
    // None of those asked sends an answer in chunks.
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}
