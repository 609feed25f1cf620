//! Thumbnails that move: GIFs made of the frames of GIF, WebP and APNG pictures, one frame in memory at a time.
//! What has too many or too large frames, takes too long or comes out too large stands still instead.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::Path,
    time::{Duration, Instant},
};

use gif::{DisposalMethod, Encoder, Repeat};
use image::{
    AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat, ImageResult, Limits, RgbaImage,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
    metadata::LoopCount,
};

/// What a picture that moves may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Frames.
    pub frames: usize,
    /// Pixels of a frame.
    pub pixels: u64,
    /// Bytes of the thumbnail.
    pub bytes: usize,
    /// How long it may take to make.
    pub time: Duration,
}

/// The bounds of all pictures.
pub const BOUNDS: Bounds = Bounds { frames: 300, pixels: 4_000_000, bytes: 4 << 20, time: Duration::from_secs(5) };

/// How fast colours are chosen: 1 is the best choice, 30 the fastest.
const SPEED: i32 = 10;
/// Below this, what is half transparent is transparent: the format knows no more.
const OPAQUE: u8 = 128;
/// A delay that browsers don't hurry up nor slow down, for frames that say none, in hundredths of a second.
const DELAY: u16 = 10;

/// Bytes of memory that this takes for a picture with frames of so many bytes: what is decoded, what it is
/// composed on, and what comes out.
pub fn memory(frame: u64) -> u64 {
    frame.saturating_mul(3).saturating_add(BOUNDS.bytes as u64)
}

/// A GIF of a picture's frames, each made smaller. None if it doesn't move, or not within the bounds. Slow.
pub fn make(
    path: &Path,
    format: ImageFormat,
    bounds: Bounds,
    shrink: impl Fn(DynamicImage) -> DynamicImage,
) -> ImageResult<Option<Vec<u8>>> {
    let until = Instant::now() + bounds.time;
    let (frames, repeat) = frames(path, format, bounds)?;
    let mut made: Option<Encoder<Bounded>> = None;
    let mut count = 0;
    for frame in frames {
        let frame = match frame {
            Ok(frame) => frame,
            // What comes before the place where a file is broken is shown by others too.
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        };
        count += 1;
        if count > bounds.frames || Instant::now() > until {
            return Ok(None);
        }
        let delay = match frame.delay().numer_denom_ms() {
            (0, _) | (_, 0) => DELAY,
            (numerator, denominator) => u16::try_from(numerator / denominator / 10).unwrap_or(u16::MAX),
        };
        let small = shrink(frame.into_buffer().into()).into_rgba8();
        let Some(made) = begun(&mut made, &small, bounds.bytes, repeat) else { return Ok(None) };
        if made.write_frame(&encoded(small, delay)).is_err() {
            return Ok(None);
        }
    }
    let bytes = made.and_then(|made| made.into_inner().ok()).map(|bounded| bounded.bytes);
    Ok(bytes.filter(|_| count > 1))
}

/// The frames of a picture, and how often they are shown.
fn frames(path: &Path, format: ImageFormat, bounds: Bounds) -> ImageResult<(Frames<'static>, Repeat)> {
    let file = BufReader::new(File::open(path)?);
    let mut limits = Limits::default();
    limits.max_alloc = Some(memory(bounds.pixels.saturating_mul(4)));
    let (count, frames) = match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(file)?;
            decoder.set_limits(limits)?;
            (decoder.loop_count(), decoder.into_frames())
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(file)?;
            decoder.set_limits(limits)?;
            (decoder.loop_count(), decoder.into_frames())
        }
        _ => {
            let decoder = PngDecoder::with_limits(file, limits)?.apng()?;
            (decoder.loop_count(), decoder.into_frames())
        }
    };
    Ok((frames, repeat(count)))
}

fn repeat(count: LoopCount) -> Repeat {
    match count {
        LoopCount::Infinite => Repeat::Infinite,
        // The format counts the times after the first.
        LoopCount::Finite(times) => Repeat::Finite(u16::try_from(times.get() - 1).unwrap_or(u16::MAX)),
    }
}

/// The GIF that is being made, begun with the size of its first frame.
fn begun<'a>(
    made: &'a mut Option<Encoder<Bounded>>,
    first: &RgbaImage,
    most: usize,
    repeat: Repeat,
) -> Option<&'a mut Encoder<Bounded>> {
    if made.is_none() {
        let (width, height) = (u16::try_from(first.width()).ok()?, u16::try_from(first.height()).ok()?);
        let mut encoder = Encoder::new(Bounded { bytes: Vec::new(), most }, width, height, &[]).ok()?;
        encoder.set_repeat(repeat).ok()?;
        *made = Some(encoder);
    }
    made.as_mut()
}

fn encoded(mut picture: RgbaImage, delay: u16) -> gif::Frame<'static> {
    for pixel in picture.pixels_mut().filter(|pixel| pixel.0[3] < OPAQUE) {
        pixel.0 = [0; 4];
    }
    // The sides were looked at when it was begun.
    let [width, height] = [picture.width(), picture.height()].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
    let mut frame = gif::Frame::from_rgba_speed(width, height, &mut picture, SPEED);
    frame.delay = delay;
    // Each frame is whole: nothing of the one before it may shine through.
    frame.dispose = DisposalMethod::Background;
    frame
}

/// Bytes that are no more than so many.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.bytes.len() + bytes.len() > self.most {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => self.bytes.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use image::{Delay, Frame, Rgba, codecs::gif::GifEncoder};

    use super::*;

    /// A GIF in which a square wanders over what is transparent.
    fn wandering(frames: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for step in 0..frames {
            let picture = RgbaImage::from_fn(60, 40, |x, _| match x / 10 == step % 6 {
                true => Rgba([250, 10, 10, 255]),
                false => Rgba([0; 4]),
            });
            let delay = Delay::from_numer_denom_ms(200, 1);
            encoder.encode_frame(Frame::from_parts(picture, 0, 0, delay)).expect("encoded");
        }
        drop(encoder);
        bytes
    }

    fn made(bytes: &[u8], bounds: Bounds) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("picture");
        std::fs::write(&path, bytes).expect("written");
        make(&path, ImageFormat::Gif, bounds, |full| full.thumbnail_exact(30, 20)).expect("a picture")
    }

    #[test]
    fn frames_keep_their_times_and_nothing_of_one_is_left_in_the_next() {
        let small = made(&wandering(4), BOUNDS).expect("it moves");
        let decoder = GifDecoder::new(io::Cursor::new(&small)).expect("a GIF");
        let frames = decoder.into_frames().collect_frames().expect("frames");
        assert_eq!(frames.len(), 4);
        for (step, frame) in frames.iter().enumerate() {
            assert_eq!(frame.delay().numer_denom_ms(), (200, 1));
            let picture = frame.buffer();
            assert_eq!((picture.width(), picture.height()), (30, 20));
            for place in 0..6 {
                let shown = picture.get_pixel(place * 5 + 2, 10).0[3] > 0;
                assert_eq!(shown, place as usize == step, "frame {step}, place {place}");
            }
        }
    }

    #[test]
    fn what_is_beyond_a_bound_or_has_one_frame_does_not_move() {
        assert!(made(&wandering(1), BOUNDS).is_none());
        assert!(made(&wandering(6), Bounds { frames: 5, ..BOUNDS }).is_none());
        assert!(made(&wandering(6), Bounds { bytes: 200, ..BOUNDS }).is_none());
        assert!(made(&wandering(6), Bounds { time: Duration::ZERO, ..BOUNDS }).is_none());
        assert!(made(&wandering(6), Bounds { frames: 6, ..BOUNDS }).is_some());
    }
}
