//! A member of a room that comes by the admin socket: one end of a pair of sockets is installed as a viewer's
//! connection, the other goes to the command. The room treats it as any member, a slow one included.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};

use super::{Operator, refusal_of, refused};
use crate::control::CallFault;
use crate::net::pass::Connection;
use crate::server::admin::{JoinOrder, Refusal, RefusalCode, Reply};

impl Operator {
    /// Answers with the member's connection.
    pub(super) async fn join(self, wish: JoinOrder, reply: Reply) {
        let (told, theirs) = match self.member(&wish).await {
            Ok(member) => member,
            Err(refusal) => return reply.refuse(refusal),
        };
        let Ok(command) = reply.into_socket() else {
            return;
        };
        let answer = json!({ "ok": told }).to_string();
        let sent = Connection::from(command).send_now(answer.as_bytes(), &[theirs.as_fd()]);
        if let Err(error) = sent {
            tracing::warn!(%error, "a member's connection did not reach its command");
        }
    }

    async fn member(&self, wish: &JoinOrder) -> Result<(Value, OwnedFd), Refusal> {
        let called = self.control.room_called(&wish.room);
        let room = called.await.map_err(refused)?;
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, theirs) = pair.map_err(|error| {
            let message = format!("no pair of sockets: {error}; see the limit on open files");
            Refusal::new(RefusalCode::Failed, message)
        })?;
        let who = json!({
            "userId": wish.user,
            "capabilities": wish.capabilities,
            "attributes": wish.attributes,
        });
        self.control
            .admit_member(room, &who, ours)
            .map_err(|fault| refusal_of(&CallFault::Refused(fault)))?;
        tracing::info!(%room, user = wish.user, "a member comes by the admin socket");
        Ok((self.control.room_names(room), theirs))
    }
}
