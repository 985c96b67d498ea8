//! Subjects and streams of one cluster: the only place that spells them.
//!
//! Eight streams of logs, so that the brokers share the leading of them, and a slow one holds up an eighth. One of token uses:
//! only uses of one stream can be one append.

use uproar_proto::base::hex::push_hex;
use uproar_proto::cluster::{HashSlot, Incarnation};
use uproar_proto::token::TokenId;

/// Streams of logs.
pub(super) const PARTS: u8 = 8;

/// The names of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Names {
    cluster: String,
}

/// What a message is about, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Records of hash slots.
    Log(u8),
    /// Uses of tokens.
    Tokens,
}

impl Names {
    pub(super) fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
        }
    }

    /// The stream's name.
    pub(super) fn stream(&self, part: Part) -> String {
        match part {
            Part::Log(part) => format!("UP_{}_LOG_{part}", self.cluster),
            Part::Tokens => format!("UP_{}_TOK", self.cluster),
        }
    }

    /// All subjects of a stream.
    pub(super) fn subjects(&self, part: Part) -> String {
        match part {
            Part::Log(part) => format!("up.{}.log.{part}.*", self.cluster),
            Part::Tokens => format!("up.{}.tok.*", self.cluster),
        }
    }

    /// The subject whose messages are the log of `slot`.
    pub(super) fn log(&self, slot: HashSlot) -> String {
        let (part, number) = (part_of(slot), slot.number());
        format!("up.{}.log.{part}.{number}", self.cluster)
    }

    /// Where the records of a stream are published once they are in it.
    pub(super) fn republished(&self, part: u8) -> String {
        format!("up.{}.out.{part}.{{{{wildcard(1)}}}}", self.cluster)
    }

    /// All published records.
    pub(super) fn published(&self) -> String {
        format!("up.{}.out.>", self.cluster)
    }

    /// The subject of a token's use.
    pub(super) fn token(&self, token: TokenId) -> String {
        let mut subject = format!("up.{}.tok.", self.cluster);
        push_hex(&mut subject, token.as_bytes());
        subject
    }

    /// Where one process is sent messages.
    pub(super) fn to(&self, process: Incarnation) -> String {
        format!("up.{}.to.{process}", self.cluster)
    }

    /// Where all nodes say that they live.
    pub(super) fn here(&self) -> String {
        format!("up.{}.here", self.cluster)
    }

    /// Where all nodes are told events for one user.
    pub(super) fn user_events(&self) -> String {
        format!("up.{}.user", self.cluster)
    }

    /// Where all nodes are told of rooms' viewers, and asked for them.
    pub(super) fn crowds(&self) -> String {
        format!("up.{}.crowd", self.cluster)
    }

    /// Where one process gets answers. Below the cluster's own subjects, so that one permission covers all.
    pub(super) fn inbox(&self, process: Incarnation) -> String {
        format!("up.{}.inbox.{process}", self.cluster)
    }

    /// The bucket of rooms, configurations and keys.
    pub(super) fn bucket(&self) -> String {
        format!("up_{}_registry", self.cluster)
    }

    /// The stream below the bucket.
    pub(super) fn bucket_stream(&self) -> String {
        format!("KV_{}", self.bucket())
    }

    /// The subject of a key of the bucket.
    pub(super) fn key(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket())
    }
}

/// Which stream has the log of `slot`.
pub(super) fn part_of(slot: HashSlot) -> u8 {
    slot.number() % PARTS
}

/// The hash slot of a published record, by its subject.
pub(super) fn slot_of(subject: &str) -> Option<HashSlot> {
    let number = subject.rsplit('.').next()?.parse().ok()?;
    Some(HashSlot::new(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what one node writes, another reads, for ever: these are an interface between versions.
    #[test]
    fn names_never_change() {
        let names = Names::new("main");
        assert_eq!(names.stream(Part::Log(3)), "UP_main_LOG_3");
        assert_eq!(names.stream(Part::Tokens), "UP_main_TOK");
        assert_eq!(names.log(HashSlot::new(200)), "up.main.log.0.200");
        assert_eq!(names.republished(0), "up.main.out.0.{{wildcard(1)}}");
        assert_eq!(slot_of("up.main.out.0.200"), Some(HashSlot::new(200)));
        assert_eq!(slot_of("up.main.out.0.256"), None);
        assert_eq!(
            names.to(Incarnation::new(0x1f)),
            "up.main.to.000000000000001f"
        );
        let token = TokenId::from_bytes([0xab; 16]);
        assert_eq!(
            names.token(token),
            format!("up.main.tok.{}", "ab".repeat(16))
        );
        assert_eq!(names.user_events(), "up.main.user");
        assert_eq!(names.crowds(), "up.main.crowd");
        assert_eq!(names.bucket_stream(), "KV_up_main_registry");
    }
}
