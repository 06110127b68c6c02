//! Addresses and other bytes that are printed as hex or bits.

use std::io::Write as _;

use super::{NotPrintable, Reader};

/// Lower case hex digits.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// `8-4-4-4-12`.
pub(super) fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    for (index, range) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        hex(&bytes[range], out);
    }
}

/// Pairs with colons between them.
pub(super) fn mac(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        hex(&[*byte], out);
    }
}

/// `bit` and `varbit`: a count of bits, then the bits from the highest.
pub(super) fn bits(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    let count = usize::try_from(reader.i32()?).map_err(|_| NotPrintable::Malformed)?;
    let bytes = reader.bytes(count.div_ceil(8))?;
    out.extend((0..count).map(|index| b'0' + (bytes[index / 8] >> (7 - index % 8) & 1)));
    Ok(())
}

/// `inet` and `cidr`. The length of the network is printed unless an `inet` is a single host.
pub(super) fn inet(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), NotPrintable> {
    let [family, network_bits, is_cidr, len] = reader.take()?;
    let host_bits = match (family, len) {
        (2, 4) => {
            dotted(&reader.take()?, out);
            32
        }
        (3, 16) => {
            colons(reader.take()?, out);
            128
        }
        _ => return Err(NotPrintable::Malformed),
    };
    if network_bits > host_bits || is_cidr > 1 {
        return Err(NotPrintable::Malformed);
    }
    if is_cidr == 1 || network_bits < host_bits {
        write!(out, "/{network_bits}").expect("a vector takes every write");
    }
    Ok(())
}

fn dotted(bytes: &[u8; 4], out: &mut Vec<u8>) {
    let [a, b, c, d] = bytes;
    write!(out, "{a}.{b}.{c}.{d}").expect("a vector takes every write");
}

/// IPv6 as `inet_net_ntop` prints it: the first longest run of zeros, two words or more, becomes `::`, and what is or
/// looks like an IPv4 address within is dotted.
fn colons(bytes: [u8; 16], out: &mut Vec<u8>) {
    let mut words = [0_u16; 8];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = u16::from(pair[0]) << 8 | u16::from(pair[1]);
    }
    let (zeros_start, zeros_len) = longest_zeros(&words);
    let zeros_end = zeros_start + zeros_len;
    let mut index = 0;
    while index < words.len() {
        if zeros_len > 0 && index == zeros_start {
            out.extend_from_slice(b"::");
            index = zeros_end;
            continue;
        }
        if index > 0 && !(zeros_len > 0 && index == zeros_end) {
            out.push(b':');
        }
        let is_ipv4 =
            index == 6 && zeros_start == 0 && (zeros_len == 6 || zeros_len == 5 && words[5] == 0xffff);
        if is_ipv4 {
            dotted(&[bytes[12], bytes[13], bytes[14], bytes[15]], out);
            return;
        }
        write!(out, "{:x}", words[index]).expect("a vector takes every write");
        index += 1;
    }
}

/// Where the first longest run of two zeros or more begins and how long it is; zero if there is none.
fn longest_zeros(words: &[u16; 8]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut start = 0;
    while start < words.len() {
        let len = words[start..].iter().take_while(|word| **word == 0).count();
        if len >= 2 && len > best.1 {
            best = (start, len);
        }
        start += len.max(1);
    }
    best
}
