//! The largest packet of the loopback interface (`gso_ipv4_max_size`), read and set over rtnetlink.
//!
//! On loopback one packet is what one pass through the kernel's TCP carries. So this is a property
//! of the machine that bounds every server on it, and results name it where it is not Linux's
//! default of 64 KiB.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};

/// Linux's default, in bytes: the largest length that an IPv4 header can hold.
pub(crate) const PACKET_BYTES_DEFAULT: u32 = 65_536;
/// The maximum of the loopback interface (`tso_max_size`), in bytes.
pub(crate) const PACKET_BYTES_MAX: u32 = 524_280;

/// Returns the largest packet of TCP over IPv4, in bytes.
///
/// # Errors
///
/// The kernel's; `Unsupported` before Linux 6.3, which has no such limit.
pub(crate) fn packet_bytes() -> io::Result<u32> {
    let answer = ask(&message(RTM_GETLINK, NLM_F_REQUEST, &[]))?;
    attribute(&answer, IFLA_GSO_IPV4_MAX_SIZE)?.ok_or_else(|| {
        let text = "the loopback's largest packet can be set from Linux 6.3 on";
        io::Error::new(io::ErrorKind::Unsupported, text)
    })
}

/// Sets the largest packet, for IPv4 and IPv6, sending and receiving, until the machine restarts.
/// Open connections keep theirs.
///
/// # Errors
///
/// The kernel's: `EPERM` without `CAP_NET_ADMIN`, `EINVAL` above [`PACKET_BYTES_MAX`].
pub(crate) fn set_packet_bytes(bytes: u32) -> io::Result<()> {
    let sizes = [
        IFLA_GSO_MAX_SIZE,
        IFLA_GRO_MAX_SIZE,
        IFLA_GSO_IPV4_MAX_SIZE,
        IFLA_GRO_IPV4_MAX_SIZE,
    ];
    let attributes = sizes.map(|kind| (kind, bytes));
    let request = message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &attributes);
    attribute(&ask(&request)?, IFLA_GSO_IPV4_MAX_SIZE).map(|_| ())
}

/// Sends one request to the kernel and returns its answer.
fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let route = None; // NETLINK_ROUTE is protocol 0.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        route,
    )?;
    // Not connected: goes to the kernel.
    send(&socket, request, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(len);
    Ok(answer)
}

/// Encodes `nlmsghdr`, `ifinfomsg` of the loopback, and `rtattr`s of four bytes each.
fn message(kind: u16, flags: u16, attributes: &[(u16, u32)]) -> Vec<u8> {
    let len = HEADER_BYTES + LINK_BYTES + attributes.len() * NUMBER_BYTES;
    let mut out = Vec::with_capacity(len);
    out.extend(u32::try_from(len).expect("a few attributes").to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    // Sequence and port are zero: the socket carries one question.
    out.extend([0; 8]);
    out.extend([0; 4]);
    out.extend(LOOPBACK_INDEX.to_ne_bytes());
    out.extend([0; 8]);
    for (kind, number) in attributes {
        out.extend([8_u16.to_ne_bytes(), kind.to_ne_bytes()].as_flattened());
        out.extend(number.to_ne_bytes());
    }
    out
}

/// Returns a number among a link's attributes; `None` if there is no such attribute.
fn attribute(answer: &[u8], wanted: u16) -> io::Result<Option<u32>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "rtnetlink: a short answer");
    let kind = u16_at(answer, 4).ok_or_else(broken)?;
    if kind == NLMSG_ERROR {
        let error = u32_at(answer, HEADER_BYTES).ok_or_else(broken)?;
        return match error.cast_signed() {
            0 => Ok(None),
            error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
        };
    }
    let mut at = HEADER_BYTES + LINK_BYTES;
    while let (Some(len), Some(kind)) = (u16_at(answer, at), u16_at(answer, at + 2)) {
        if kind & ATTRIBUTE_KIND == wanted {
            return u32_at(answer, at + 4).map(Some).ok_or_else(broken);
        }
        // A length below that of its own head would go round for ever.
        at += usize::from(len).max(4).next_multiple_of(4);
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// The index of `lo` in every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// Largest answer, in bytes; a link's has 1 to 2 KB.
const ANSWER_BYTES_MAX: usize = 32 * 1024;
const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// The bits of an attribute's kind without the flags "nested" and "network byte order".
const ATTRIBUTE_KIND: u16 = 0x3fff;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_GRO_MAX_SIZE: u16 = 58;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_GRO_IPV4_MAX_SIZE: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the kernel's answer is understood.
    #[test]
    fn the_kernel_tells_its_largest_packet() {
        match packet_bytes() {
            Ok(bytes) => assert!((1..=PACKET_BYTES_MAX).contains(&bytes)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
    }

    /// Goal: whatever the bytes are, the answer is a number, none or an error. Method: an answer by
    /// hand, cut at each length and with each length of an attribute.
    #[test]
    fn answers_are_taken_apart_with_care() {
        let mut answer = message(RTM_NEWLINK, 0, &[(7, 1), (IFLA_GSO_IPV4_MAX_SIZE, 300_000)]);
        let found = attribute(&answer, IFLA_GSO_IPV4_MAX_SIZE).expect("whole");
        assert_eq!(found, Some(300_000));
        assert_eq!(attribute(&answer, IFLA_GRO_MAX_SIZE).expect("whole"), None);
        for len in 0..answer.len() {
            let _any = attribute(&answer[..len], IFLA_GSO_IPV4_MAX_SIZE);
        }
        for len in 0..=u16::MAX {
            let at = HEADER_BYTES + LINK_BYTES;
            answer[at..at + 2].copy_from_slice(&len.to_ne_bytes());
            let _any = attribute(&answer, IFLA_GSO_IPV4_MAX_SIZE);
        }
        let mut refused = message(NLMSG_ERROR, 0, &[]);
        refused[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&(-1_i32).to_ne_bytes());
        let error = attribute(&refused, IFLA_GRO_MAX_SIZE).expect_err("EPERM");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
