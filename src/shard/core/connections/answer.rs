//! Answers to commands that another thread has carried out: for their sender alone.

use super::Connections;
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{Command, MemberAnswer, SenderAddress, Voter};
use crate::shard::core::env::Env;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use crate::shard::core::rooms::tallies::CastOutcome;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::encode;
use uproar_proto::extension::command;

impl<W: Io> Connections<W> {
    /// Answers a command of a connection, here or on another shard.
    pub(in crate::shard::core) fn answer_at(
        &mut self,
        SenderAddress { shard, connection }: SenderAddress,
        answer: MemberAnswer,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        if shard == env.id {
            self.answer_member(Slot::from_bits(connection), answer, rooms, env);
        } else {
            let answer = Command::AnswerMember(connection, Box::new(answer));
            env.outbox.send(shard, answer);
        }
    }

    /// Answers votes and reactions.
    pub(in crate::shard::core) fn answer_cast(
        &mut self,
        voter: Voter,
        (verb, outcome): (&'static str, CastOutcome),
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let answer = MemberAnswer {
            request_id: voter.request_id,
            verb,
            outcome: outcome.map(str::to_owned),
        };
        self.answer_at(voter.sender, answer, rooms, env);
    }

    /// Answers a command of a connection, unless it has gone.
    pub(in crate::shard::core) fn answer_member(
        &mut self,
        slot: ConnectionSlot<W>,
        answer: MemberAnswer,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let MemberAnswer {
            request_id,
            verb,
            outcome,
        } = answer;
        match outcome {
            Ok(text) => {
                let answered = self.tell_privately(slot, (&request_id, verb, &text), env);
                match answered {
                    Some(true) => self.deliver_own(slot, rooms, env),
                    Some(false) => self.cut(slot, CloseReason::Slow, rooms, env),
                    None => {}
                }
            }
            Err((code, text)) => {
                let sender = SenderAddress {
                    shard: env.id,
                    connection: slot.to_bits(),
                };
                let id = env.ids.next_id();
                self.refuse_at(sender, (&request_id, id), (code, &text), rooms, env);
            }
        }
    }

    /// Puts the answer to a command into the lane of its sender; `false`: the lane is full, `None`: the connection has gone.
    fn tell_privately(
        &mut self,
        slot: ConnectionSlot<W>,
        (request_id, verb, text): (&str, &str, &str),
        env: &mut Env<W::Socket>,
    ) -> Option<bool> {
        let connection = self.table.get_mut(slot)?;
        if !connection.is_open() {
            return None;
        }
        let lane = connection.lane.get_or_insert_default();
        let answer = encode::Message {
            id: env.ids.next_id(),
            request_id,
            attributes_json: &command::answer_attributes(verb),
            content: text,
            sent: env.now.unix,
            sender_json: connection.session.sender_json(),
        };
        Some(lane.push(|out| encode::message(out, &answer)).is_ok())
    }
}
