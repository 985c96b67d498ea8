//! stub
pub mod encode {
    use super::ErrorCode;
    use crate::base::{clock::UnixTime, id::FrameId};
    use bytes::BytesMut;
    pub struct Message<'a> {
        pub id: FrameId,
        pub request_id: &'a str,
        pub attributes_json: &'a str,
        pub content: &'a str,
        pub sent: UnixTime,
        pub sender_json: &'a str,
    }
    impl Message<'_> {
        pub fn bytes_max(&self) -> usize {
            0
        }
    }
    pub struct Event<'a> {
        pub id: FrameId,
        pub request_id: &'a str,
        pub name: &'a str,
        pub attributes_json: &'a str,
        pub sent: UnixTime,
    }
    impl Event<'_> {
        pub fn bytes_max(&self) -> usize {
            0
        }
    }
    pub fn message(_o: &mut BytesMut, _m: &Message<'_>) {}
    pub fn event(_o: &mut BytesMut, _m: &Event<'_>) {}
    pub fn error(_o: &mut BytesMut, _i: FrameId, _r: &str, _c: ErrorCode, _m: &str) {}
    pub const DELETED: &str = "";
    pub const DISCONNECTED: &str = "";
    pub fn deleted_attributes(_i: &str, _r: &str) -> String {
        String::new()
    }
    pub fn disconnected_attributes(_i: &str, _r: &str) -> String {
        String::new()
    }
    pub fn sender_json<'a>(_u: &str, _a: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        String::new()
    }
    pub fn is_sender(_s: &str, _u: &str) -> bool {
        false
    }
}
pub mod texts {
    pub const RATE: &str = "rate limit exceeded";
    pub const CAPABILITY: &str = "";
    pub const BINARY: &str = "";
    pub const FRAME_TOO_BIG: &str = "";
    pub const NO_ROOM: &str = "";
    pub const SESSION_OVER: &str = "";
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    NotAcceptable,
    PayloadTooLarge,
    TooManyRequests,
    Internal,
}
impl ErrorCode {
    pub fn number(self) -> u16 {
        0
    }
}
#[derive(Debug)]
pub enum Request<'a> {
    SendMessage {
        content: &'a str,
        attributes_json: &'a str,
        request_id: &'a str,
    },
    DeleteMessage {
        id: &'a str,
        reason: &'a str,
        request_id: &'a str,
    },
    DisconnectUser {
        user_id: &'a str,
        reason: &'a str,
        request_id: &'a str,
    },
}
#[derive(Debug)]
pub struct Refusal<'a> {
    pub code: ErrorCode,
    pub message: &'static str,
    pub request_id: &'a str,
}
#[derive(Debug, Default)]
pub struct Parser;
impl Parser {
    pub fn parse<'a>(
        &'a mut self,
        _p: &'a mut [u8],
        _l: usize,
        _c: usize,
    ) -> Result<Request<'a>, Refusal<'a>> {
        unimplemented!()
    }
}
