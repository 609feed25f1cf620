//! Smaller pictures, made when first asked for and kept. Only sizes of a short list are made, so that a
//! picture has few of them however many are asked for. Decoding is bounded in pixels, bytes and number.
//! spec: client-server-api#thumbnails

use std::{
    fs,
    io::{self, BufReader, Cursor, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{jpeg::JpegEncoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};
use tokio::sync::Semaphore;

use super::{
    File,
    files::{explain, place},
};
use crate::{
    base::random,
    error::{Error, Result},
};

/// Pixels of a picture that is decoded at most.
const MAX_PIXELS: u64 = 32_000_000;
/// Bytes of decoded pictures in memory at once, all together.
const MAX_BYTES: u64 = 160 << 20;
/// The unit in which that is shared out.
const UNIT: u64 = 1 << 20;

/// Boxes that pictures are fitted into, and sides of squares that are cut out, from small to large.
const BOXES: [(u32, u32); 3] = [(320, 240), (640, 480), (800, 600)];
const SQUARES: [u32; 4] = [32, 96, 320, 640];

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The least width.
    pub width: u32,
    /// The least height.
    pub height: u32,
    /// Cut to the shape, and not only fitted in.
    pub crop: bool,
    /// Moving, if the picture does.
    pub animated: bool,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    Fit(u32, u32),
    Square(u32),
    /// The first frame, in full size.
    Still,
}

impl Make {
    fn name(self) -> String {
        match self {
            Self::Fit(width, height) => format!("{width}x{height}"),
            Self::Square(side) => format!("{side}"),
            Self::Still => "still".into(),
        }
    }
}

/// What a picture says of itself before it is decoded.
#[derive(Clone, Copy, Debug)]
struct Seen {
    format: ImageFormat,
    width: u32,
    height: u32,
    bytes: u64,
    animated: bool,
}

/// The folder of thumbnails, and the memory to make them in.
pub struct Thumbnails {
    folder: PathBuf,
    memory: Arc<Semaphore>,
}

impl Thumbnails {
    /// Thumbnails in a folder, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        let units = usize::try_from(MAX_BYTES / UNIT).unwrap_or(1);
        Self { folder, memory: Arc::new(Semaphore::new(units)) }
    }

    /// A picture that is as wanted: made now, made before, or the original.
    pub async fn of(&self, original: File, wanted: Wanted) -> Result<File> {
        if wanted.width == 0 || wanted.height == 0 {
            return Err(Error::invalid_param("a thumbnail has a width and a height"));
        }
        let path = original.path.clone();
        let seen = tokio::task::spawn_blocking(move || look(&path)).await.map_err(Error::internal)??;
        let Some(make) = choose(wanted, &seen) else {
            let content_type = Some(seen.format.to_mime_type().to_owned());
            return Ok(File { content_type, ..original });
        };
        let (name, folder) = (make.name(), place(&self.folder, &original.tag));
        let base = folder.join(format!("{}-{name}", original.tag));
        if let Some(file) = kept(&base, &original.tag, &name) {
            return Ok(file);
        }
        // Never more than there is altogether, or it would wait for ever.
        let units = (seen.bytes / UNIT + 1).min(MAX_BYTES / UNIT);
        let units = u32::try_from(units).map_err(Error::internal)?;
        let share = self.memory.clone().acquire_many_owned(units).await.map_err(Error::internal)?;
        let tag = original.tag.clone();
        let work = move || {
            let _share = share;
            // Somebody else may have made it while this waited.
            if let Some(file) = kept(&base, &tag, &name) {
                return Ok(file);
            }
            write(&base, &make_from(&original.path, make)?)?;
            kept(&base, &tag, &name).ok_or_else(|| Error::internal("a new thumbnail is not there"))
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}

/// What to make: the smallest that is not smaller than wanted. None if the original serves, as pictures
/// are never made larger.
fn choose(wanted: Wanted, seen: &Seen) -> Option<Make> {
    if wanted.animated && seen.animated {
        return None;
    }
    let fits = |make: &Make| match *make {
        Make::Square(side) => side >= wanted.width && side >= wanted.height,
        Make::Fit(width, height) => width >= wanted.width && height >= wanted.height,
        Make::Still => false,
    };
    let smaller = |make: &Make| match *make {
        Make::Square(side) => seen.width > side && seen.height > side,
        Make::Fit(width, height) => seen.width > width || seen.height > height,
        Make::Still => false,
    };
    let list: Vec<Make> = match wanted.crop {
        true => SQUARES.map(Make::Square).into(),
        false => BOXES.map(|(width, height)| Make::Fit(width, height)).into(),
    };
    let made = list.into_iter().find(fits).filter(smaller);
    made.or_else(|| seen.animated.then_some(Make::Still))
}

/// A thumbnail that was made before.
fn kept(base: &Path, tag: &str, name: &str) -> Option<File> {
    [("png", "image/png"), ("jpg", "image/jpeg")].into_iter().find_map(|(ending, kind)| {
        let path = base.with_extension(ending);
        let size = fs::metadata(&path).ok()?.len();
        let tag = format!("{tag}-{name}");
        Some(File { path, size, tag, content_type: Some(kind.into()), filename: Some(format!("thumbnail.{ending}")) })
    })
}

/// Removes what was made of a file.
pub fn forget(folder: &Path, hash: &str) {
    let Ok(entries) = fs::read_dir(place(folder, hash)) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{hash}-")) {
            // What can't be removed takes room and does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn reader(path: &Path) -> Result<ImageReader<BufReader<fs::File>>> {
    let file = BufReader::new(fs::File::open(path).map_err(explain)?);
    let mut reader = ImageReader::new(file).with_guessed_format().map_err(explain)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader)
}

/// Reads a picture's head. 400 if it is no picture, 413 `M_TOO_LARGE` if it is too large to decode.
fn look(path: &Path) -> Result<Seen> {
    let reader = reader(path)?;
    let format = reader.format().ok_or_else(|| no_picture("unknown format"))?;
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || bytes > MAX_BYTES {
        return Err(Error::too_large("this picture has too many pixels for a thumbnail"));
    }
    let (width, height) = match is_turned(orientation(&mut decoder)) {
        true => (height, width),
        false => (width, height),
    };
    let again = || -> Result<_> { Ok(BufReader::new(fs::File::open(path).map_err(explain)?)) };
    let animated = match format {
        // Whether a GIF moves is known only after its first picture.
        ImageFormat::Gif => true,
        ImageFormat::Png => PngDecoder::new(again()?).and_then(|png| png.is_apng()).map_err(refuse)?,
        ImageFormat::WebP => WebPDecoder::new(again()?).map_err(refuse)?.has_animation(),
        _ => false,
    };
    Ok(Seen { format, width, height, bytes, animated })
}

fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// Whether a picture stands on its side in its file, as those of cameras do.
fn is_turned(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// Decodes a picture and makes a smaller one. Slow.
fn make_from(path: &Path, make: Make) -> Result<DynamicImage> {
    let mut decoder = reader(path)?.into_decoder().map_err(refuse)?;
    let orientation = orientation(&mut decoder);
    let full = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    let (width, height) = (full.width(), full.height());
    let mut small = match make {
        Make::Still => full,
        Make::Square(side) => {
            let least = width.min(height);
            let middle = full.crop_imm((width - least) / 2, (height - least) / 2, least, least);
            drop(full);
            middle.thumbnail_exact(side, side)
        }
        Make::Fit(wide, high) => {
            let (wide, high) = if is_turned(orientation) { (high, wide) } else { (wide, high) };
            let (width, height) = fit((width, height), (wide, high));
            full.thumbnail_exact(width, height)
        }
    };
    small.apply_orientation(orientation);
    Ok(small)
}

/// The largest size of the same shape that fits into a box.
fn fit((width, height): (u32, u32), (wide, high): (u32, u32)) -> (u32, u32) {
    let scale = |side: u32, to: u32, of: u32| {
        let scaled = (u64::from(side) * u64::from(to) + u64::from(of) / 2) / u64::from(of.max(1));
        u32::try_from(scaled.max(1)).unwrap_or(u32::MAX)
    };
    match u64::from(width) * u64::from(high) > u64::from(height) * u64::from(wide) {
        true => (wide, scale(height, wide, width).min(high)),
        false => (scale(width, high, height).min(wide), high),
    }
}

/// Writes a thumbnail so that it is there whole or not at all: PNG where something is transparent, and
/// otherwise JPEG, which is smaller.
fn write(base: &Path, picture: &DynamicImage) -> Result<()> {
    let mut bytes = Vec::new();
    let ending = if picture.color().has_alpha() {
        let picture = DynamicImage::ImageRgba8(picture.to_rgba8());
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(refuse)?;
        "png"
    } else {
        let picture = DynamicImage::ImageRgb8(picture.to_rgb8());
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 82)).map_err(refuse)?;
        "jpg"
    };
    let save = || -> io::Result<()> {
        let folder = base.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let temporary = folder.join(random::id::<24>());
        let mut file = fs::File::create_new(&temporary)?;
        let done = file.write_all(&bytes).and_then(|()| file.sync_all());
        let done = done.and_then(|()| fs::rename(&temporary, base.with_extension(ending)));
        if done.is_err() {
            // What can't be removed either is small, and nothing refers to it.
            let _ = fs::remove_file(&temporary);
        }
        done
    };
    save().map_err(explain)
}

fn no_picture(why: &str) -> Error {
    Error::unknown(format!("there is no thumbnail of this: {why}"))
}

fn refuse(error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => Error::too_large("this picture is too large for a thumbnail"),
        ImageError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => explain(error),
        _ => no_picture("it can't be decoded"),
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn saved(dir: &Path, picture: &DynamicImage, format: ImageFormat) -> File {
        let path = dir.join("original");
        picture.save_with_format(&path, format).expect("saved");
        let size = fs::metadata(&path).expect("there").len();
        File { path, size, tag: "abcdef".into(), content_type: Some("text/html".into()), filename: None }
    }

    fn plain(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_pixel(width, height, Rgb([200, 100, 50])).into()
    }

    fn wanted(width: u32, height: u32, crop: bool) -> Wanted {
        Wanted { width, height, crop, animated: false }
    }

    async fn made(picture: &DynamicImage, format: ImageFormat, wanted: Wanted) -> Result<(u32, u32, String)> {
        let dir = tempfile::tempdir().expect("a directory");
        let original = saved(dir.path(), picture, format);
        let file = Thumbnails::new(dir.path().join("thumbnails")).of(original, wanted).await?;
        let (width, height) = image::image_dimensions_of(&file.path);
        Ok((width, height, file.content_type.expect("known")))
    }

    mod image {
        pub use ::image::*;

        pub fn image_dimensions_of(path: &std::path::Path) -> (u32, u32) {
            let reader = ImageReader::open(path).expect("opens").with_guessed_format().expect("read");
            reader.into_dimensions().expect("a picture")
        }
    }

    #[tokio::test]
    async fn pictures_of_all_formats_are_fitted_and_cut() {
        for (format, kind) in [
            (ImageFormat::Png, "image/jpeg"),
            (ImageFormat::Jpeg, "image/jpeg"),
            (ImageFormat::Gif, "image/png"),
            (ImageFormat::WebP, "image/jpeg"),
        ] {
            let fitted = made(&plain(1000, 500), format, wanted(200, 200, false)).await.expect("made");
            assert_eq!(fitted, (320, 160, kind.into()), "{format:?}");
            let cut = made(&plain(1000, 500), format, wanted(48, 96, true)).await.expect("made");
            assert_eq!(cut, (96, 96, kind.into()), "{format:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_made_larger_and_the_original_says_what_it_really_is() {
        let small = made(&plain(300, 200), ImageFormat::Png, wanted(320, 240, false)).await.expect("the original");
        assert_eq!(small, (300, 200, "image/png".into()));
        let narrow = made(&plain(1000, 20), ImageFormat::Png, wanted(32, 32, true)).await.expect("the original");
        assert_eq!(narrow, (1000, 20, "image/png".into()));
        let beyond = made(&plain(1000, 900), ImageFormat::Png, wanted(900, 900, false)).await.expect("the original");
        assert_eq!(beyond, (1000, 900, "image/png".into()));
    }

    #[tokio::test]
    async fn what_is_transparent_stays_so_and_what_moves_stands_still_unless_wanted() {
        let clear: DynamicImage = RgbaImage::from_pixel(500, 500, Rgba([1, 2, 3, 100])).into();
        let made_clear = made(&clear, ImageFormat::Png, wanted(96, 96, true)).await.expect("made");
        assert_eq!(made_clear, (96, 96, "image/png".into()));
        let still = made(&plain(20, 20), ImageFormat::Gif, wanted(96, 96, false)).await.expect("made");
        assert_eq!(still, (20, 20, "image/png".into()));
        let moving = Wanted { animated: true, ..wanted(96, 96, false) };
        let moving = made(&plain(20, 20), ImageFormat::Gif, moving).await.expect("the original");
        assert_eq!(moving, (20, 20, "image/gif".into()));
    }

    #[tokio::test]
    async fn a_thumbnail_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let original = saved(dir.path(), &plain(1000, 500), ImageFormat::Png);
        let thumbnails = Thumbnails::new(dir.path().join("thumbnails"));
        let first = thumbnails.of(original.clone(), wanted(300, 200, false)).await.expect("made");
        let before = fs::metadata(&first.path).expect("there").modified().expect("a time");
        let second = thumbnails.of(original, wanted(310, 210, false)).await.expect("kept");
        assert_eq!(first, second);
        assert_eq!(fs::metadata(&second.path).expect("there").modified().expect("a time"), before);
    }

    #[tokio::test]
    async fn bombs_and_what_is_no_picture_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut file = saved(dir.path(), &plain(10, 10), ImageFormat::Png);
        let thumbnails = Thumbnails::new(dir.path().join("thumbnails"));
        let mut bomb = fs::read(&file.path).expect("read");
        // The width and height in the PNG's header, which says more than there is, and its checksum.
        bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let sum = crc32(&bomb[12..29]).to_be_bytes();
        bomb[29..33].copy_from_slice(&sum);
        fs::write(&file.path, &bomb).expect("written");
        let error = thumbnails.of(file.clone(), wanted(32, 32, true)).await.expect_err("too large");
        assert_eq!((error.status().as_u16(), error.errcode()), (413, "M_TOO_LARGE"));
        file.path = dir.path().join("text");
        fs::write(&file.path, "<html>").expect("written");
        let error = thumbnails.of(file.clone(), wanted(32, 32, true)).await.expect_err("no picture");
        assert_eq!((error.status().as_u16(), error.errcode()), (400, "M_UNKNOWN"));
        let error = thumbnails.of(file, wanted(0, 32, true)).await.expect_err("no size");
        assert_eq!(error.errcode(), "M_INVALID_PARAM");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
        })
    }

    #[test]
    fn shapes_are_kept_and_no_side_vanishes() {
        assert_eq!(fit((1000, 500), (320, 240)), (320, 160));
        assert_eq!(fit((500, 1000), (320, 240)), (120, 240));
        assert_eq!(fit((10_000, 1), (320, 240)), (320, 1));
        assert_eq!(fit((1, 10_000), (320, 240)), (1, 240));
    }
}
