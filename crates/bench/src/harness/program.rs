//! What this library is told of the program that links it.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::{Credentials, Outgoing, sign};

/// The program that links this library, which is also the server under test.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its executable, which is started as the server (`dev`) and as client processes (`bench
    /// worker`).
    pub executable: PathBuf,
    /// The data directory of its `dev` mode, where a server of `--target` keeps its keys by
    /// default.
    pub dev_data_dir: PathBuf,
    /// The file of the sealing keys in a data directory.
    pub keyring_path: fn(&Path) -> PathBuf,
    /// The access to its API in `dev` mode.
    pub dev: DevAccess,
}

/// Fixed names and the access key of a server in `dev` mode. They are public knowledge.
#[derive(Debug, Clone, Copy)]
pub struct DevAccess {
    /// Region in ARNs and signatures.
    pub region: &'static str,
    /// Account in ARNs.
    pub account: &'static str,
    /// Access key id.
    pub key_id: &'static str,
    /// Its secret.
    pub secret: &'static str,
}

impl DevAccess {
    /// Returns the ARN of a room.
    pub(crate) fn arn(&self, room: RoomId) -> String {
        let (region, account) = (self.region, self.account);
        format!("arn:aws:ivschat:{region}:{account}:room/{room}")
    }

    /// Returns the signed head of a POST of `body` to `path` at the server `host`. `unsigned` are
    /// further header lines, each with its line end.
    pub(crate) fn signed_head(
        &self,
        host: &str,
        path: &str,
        unsigned: &str,
        body: &[u8],
        now: UnixTime,
    ) -> String {
        let request = Outgoing {
            method: "POST",
            path,
            query: "",
            host,
            headers: &[],
            body,
        };
        let credentials = Credentials {
            key_id: self.key_id.to_owned(),
            secret: Zeroizing::new(self.secret.to_owned()),
            session_token: None,
        };
        let scope = Scope {
            region: self.region,
            service: "ivschat",
        };
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{unsigned}",
            body.len()
        );
        for (name, value) in sign(&request, &credentials, scope, now) {
            head.extend([name, ": ", &value, "\r\n"]);
        }
        head.push_str("\r\n");
        head
    }
}

/// What every measurement is told.
#[derive(Debug)]
pub(crate) struct Environment<'a> {
    pub(crate) program: &'a Program,
    /// The machine in one line.
    pub(crate) machine: String,
}
