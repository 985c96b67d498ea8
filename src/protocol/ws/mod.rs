//! stub
use bytes::BytesMut;
#[derive(Debug)]
pub struct Bounds {
    pub message_bytes_max: usize,
    pub fragments_max: u32,
}
#[derive(Debug)]
pub struct Payload<'a>(&'a mut [u8]);
impl<'a> Payload<'a> {
    pub fn bytes(&self) -> &[u8] {
        self.0
    }
    pub fn into_padded(self) -> (&'a mut [u8], usize) {
        unimplemented!()
    }
}
#[derive(Debug)]
pub enum Item<'a> {
    Text(Payload<'a>),
    Binary(Payload<'a>),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close { code: Option<u16>, reason: &'a str },
}
#[derive(Debug)]
pub struct Step<'a> {
    pub consumed: usize,
    pub item: Option<Item<'a>>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Violation;
impl Violation {
    pub fn close_code(&self) -> u16 {
        0
    }
}
#[derive(Debug, Default)]
pub struct Decoder(Option<Box<u8>>);
impl Decoder {
    pub fn step<'a>(
        &'a mut self,
        _b: &'a mut [u8],
        _s: usize,
        _e: usize,
        _x: &Bounds,
    ) -> Result<Step<'a>, Violation> {
        unimplemented!()
    }
    pub fn release(&mut self) {}
}
pub fn close(_o: &mut BytesMut, _c: u16, _r: &str) {}
pub fn close_empty(_o: &mut BytesMut) {}
pub fn ping(_o: &mut BytesMut) {}
pub fn pong(_o: &mut BytesMut, _p: &[u8]) {}
pub fn message(_o: &mut BytesMut, _t: bool, _p: &[u8]) {}
