//! What a client sends.

use std::io::Write;

use uproar_proto::ws::client::masked_frame;

/// Makes a client's masked frame (RFC 6455 §5.2). `first` is its first byte: FIN, RSV1 if it is compressed, opcode.
pub fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    masked_frame(&mut frame, first, payload, mask);
    frame
}

/// Makes a whole text message.
pub fn text(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload, [1, 2, 3, 4])
}

/// Compresses a message as RFC 7692 §7.2.1 says.
pub fn deflated(text: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(text).expect("memory");
    writer.flush().expect("memory");
    let deflated = writer.get_ref();
    deflated[..deflated.len() - 4].to_vec()
}

/// Makes a SEND_MESSAGE request with 200 bytes of content, as the JavaScript SDK writes it.
pub fn request() -> String {
    format!(
        r#"{{"Action":"SEND_MESSAGE","RequestId":"2d719db0-630c-4918-9cee-6930c5087a2c","Content":"{}"}}"#,
        "x".repeat(200)
    )
}
