//! Pictures to upload: PNG files that hold their pixels as they are, so that making one costs the generator little.

/// A picture with soft colours; each number gives another one.
pub fn png(width: u32, height: u32, number: u32) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(height as usize * (width as usize * 3 + 1));
    for y in 0..height {
        pixels.push(0);
        for x in 0..width {
            pixels.extend([(x / 8) as u8, (y / 8) as u8, (number.wrapping_mul(37) + (x ^ y) / 16) as u8]);
        }
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // Eight bits for each of red, green and blue.
    head.extend([8, 2, 0, 0, 0]);
    let table = table();
    for (name, data) in [(b"IHDR", head), (b"IDAT", stored(&pixels)), (b"IEND", Vec::new())] {
        file.extend((data.len() as u32).to_be_bytes());
        let from = file.len();
        file.extend(name);
        file.extend(data);
        let sum = crc(&table, &file[from..]);
        file.extend(sum.to_be_bytes());
    }
    file
}

/// A zlib stream that compresses nothing (RFC 1950 and 1951).
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    // So many bytes can be added before either sum is too large.
    for part in data.chunks(5_552) {
        for byte in part {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % 65_521, b % 65_521);
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn table() -> [u32; 256] {
    let mut table = [0; 256];
    for (number, entry) in (0_u32..).zip(table.iter_mut()) {
        *entry = (0..8).fold(number, |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ sum >> 1 } else { sum >> 1 });
    }
    table
}

fn crc(table: &[u32; 256], data: &[u8]) -> u32 {
    !data.iter().fold(!0, |sum, byte| table[((sum ^ u32::from(*byte)) & 255) as usize] ^ sum >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standards() {
        assert_eq!(crc(&table(), b"123456789"), 0xcbf4_3926);
        assert_eq!(stored(b"Wikipedia")[2 + 5 + 9..], 0x11e6_0398_u32.to_be_bytes());
        assert_ne!(png(4, 4, 0), png(4, 4, 1));
    }
}
