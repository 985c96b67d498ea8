//! stub
use crate::base::id::FrameId;
#[derive(Debug, Default)]
pub struct HeadScanner;
impl HeadScanner {
    pub fn scan(&mut self, _b: &[u8]) -> Result<Option<usize>, HeadFault> {
        unimplemented!()
    }
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct HeadFault;
impl HeadFault {
    pub fn status(&self) -> u16 {
        0
    }
}
pub struct Upgrade<'a> {
    pub key: &'a str,
    pub token: Option<&'a str>,
    pub origin: Option<&'a str>,
}
pub enum Request<'a> {
    Upgrade(Upgrade<'a>),
    Plain { method: &'a str, target: &'a str },
}
pub fn parse(_h: &[u8]) -> Result<Request<'_>, HeadFault> {
    unimplemented!()
}
pub fn switching_protocols(_o: &mut Vec<u8>, _k: &str, _t: Option<&str>) {}
pub fn refusal(_o: &mut Vec<u8>, _s: u16, _i: FrameId, _c: u16, _m: &str) {}
pub fn plain(_o: &mut Vec<u8>, _s: u16, _c: &str, _b: &[u8]) {}
