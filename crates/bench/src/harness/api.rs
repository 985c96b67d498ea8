//! The HTTP API of a server under test, one request on a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;

use super::error::BenchError;
use super::program::DevAccess;

/// Longest wait for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A header line of a request that is the only one on its connection.
const CLOSE: &str = "Connection: close\r\n";

/// Returns the answer to a GET, head and body.
pub(super) fn get(server: SocketAddr, path: &str) -> io::Result<String> {
    ask(
        server,
        &format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n{CLOSE}\r\n"),
    )
}

/// Creates a room.
pub(super) fn create_room(dev: &DevAccess, control: SocketAddr) -> Result<RoomId, BenchError> {
    create(dev, control, r#"{"name":"bench"}"#)
}

/// Creates a room with these tags, a JSON object.
pub(super) fn create_tagged(
    dev: &DevAccess,
    control: SocketAddr,
    tags: &str,
) -> Result<RoomId, BenchError> {
    create(
        dev,
        control,
        &format!(r#"{{"name":"bench","tags":{tags}}}"#),
    )
}

/// Creates a room whose members may vote in a tally, which is open for an hour.
pub(super) fn create_tally(
    dev: &DevAccess,
    control: SocketAddr,
    id: &str,
) -> Result<RoomId, BenchError> {
    let room = create_tagged(dev, control, r#"{"uproar:state":"on"}"#)?;
    let arn = dev.arn(room);
    let body = format!(
        r#"{{"roomIdentifier":"{arn}","id":"{id}","question":"Who wins?","options":["Red","Blue"],"seconds":3600,"change":true}}"#
    );
    let answer = call(dev, control, "/uproar/v1/StartTally", &body)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(room)
    } else {
        Err(BenchError::Server(format!("StartTally answered {answer}")))
    }
}

fn call(dev: &DevAccess, control: SocketAddr, path: &str, body: &str) -> io::Result<String> {
    let host = control.to_string();
    let head = dev.signed_head(&host, path, CLOSE, body.as_bytes(), wall_clock());
    ask(control, &(head + body))
}

fn create(dev: &DevAccess, control: SocketAddr, body: &str) -> Result<RoomId, BenchError> {
    let answer = call(dev, control, "/CreateRoom", body)?;
    let id = answer
        .split_once(":room/")
        .and_then(|(_, rest)| RoomId::parse(rest.split('"').next()?));
    id.ok_or_else(|| BenchError::Server(format!("CreateRoom answered {answer}")))
}

/// Reads the wall clock, for tokens and signatures.
pub(crate) fn wall_clock() -> UnixTime {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    UnixTime::from_secs(since_epoch.as_secs())
}

/// Sends one request, which must ask for `Connection: close`, on a connection of its own, and
/// returns the answer.
fn ask(server: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
