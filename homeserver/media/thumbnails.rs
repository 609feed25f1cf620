//! Smaller pictures, made when first asked for and kept. Only sizes of a short list are made, so that a
//! picture has few of them however many are asked for. Pictures that move do so in thumbnails too, where that is
//! wanted (`moving.rs`). Decoding is bounded in pixels, bytes and number.
//! spec: client-server-api#thumbnails

use std::{
    fs,
    io::{self, BufReader, Cursor, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{jpeg::JpegEncoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};
use quick_cache::sync::Cache;
use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, mpsc},
};

use super::{
    File, Place,
    files::{Temporary, explain, full, incoming, place},
    moving,
    workbench::Workbench,
};
use crate::{
    base::{disk, random},
    error::{Error, Result},
};

/// Pixels of a picture that is decoded at most.
const MAX_PIXELS: u64 = 32_000_000;
/// Bytes of a decoded picture, and of a file that has to be read whole before it is decoded.
const MAX_BYTES: u64 = 160 << 20;

/// Pictures that are fetched at once from where they are.
const FETCHED_AT_ONCE: usize = 4;
/// Pictures of which is known what they are.
const MAX_SEEN: usize = 4096;
/// Bytes of a file that tell whether it is a picture.
const HEAD: u64 = 64;

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

/// The size of what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Fit(u32, u32),
    Square(u32),
    Whole,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Make {
    shape: Shape,
    /// All frames, and not only the first.
    moving: bool,
}

impl Make {
    fn name(self) -> String {
        let moving = if self.moving { "-moving" } else { "" };
        match self.shape {
            Shape::Fit(width, height) => format!("{width}x{height}{moving}"),
            Shape::Square(side) => format!("{side}{moving}"),
            Shape::Whole => "still".into(),
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
    orientation: Orientation,
}

/// The folder of thumbnails, and the memory to make them in.
pub struct Thumbnails {
    folder: PathBuf,
    /// Where files come that have to be fetched first.
    media: PathBuf,
    /// Free bytes on the disk below which nothing is made.
    min_free: u64,
    workbench: Workbench,
    fetching: Semaphore,
    /// What was seen of files: one that is fetched only to find that it is small enough is fetched once.
    seen: Cache<String, Seen>,
}

/// A file that is on this machine, perhaps only while it is needed.
struct Local {
    path: PathBuf,
    _fetched: Option<Temporary>,
}

impl Thumbnails {
    /// Thumbnails in a folder of the folder of media, which is made when it is needed.
    pub fn new(media: &Path, min_free: u64) -> Self {
        Self {
            folder: folder_in(media),
            media: media.to_owned(),
            min_free,
            workbench: Workbench::new(),
            fetching: Semaphore::new(FETCHED_AT_ONCE),
            seen: Cache::new(MAX_SEEN),
        }
    }

    /// A picture that is as wanted: made now, made before, or the original.
    pub async fn of(&self, original: File, wanted: Wanted) -> Result<File> {
        if wanted.width == 0 || wanted.height == 0 {
            return Err(Error::invalid_param("a thumbnail has a width and a height"));
        }
        let base = |make: Make| place(&self.folder, &original.tag).join(format!("{}-{}", original.tag, make.name()));
        let made_before = |make: Make| kept(&base(make), &original.tag, &make.name());
        // What would not be the answer was never made.
        let likely = smallest(wanted).map(|shape| Make { shape, moving: wanted.animated });
        if let Some(file) = likely.and_then(made_before) {
            return Ok(file);
        }
        let mut seen = self.seen.get(&original.tag);
        if let Some(seen) = seen.filter(|seen| choose(wanted, seen).is_none()) {
            return Ok(itself(original, &seen));
        }
        let local = self.local(&original).await?;
        if seen.is_none() {
            // Some decoders take in all of a file before they say anything of it.
            let (path, share) = (local.path.clone(), self.workbench.share(original.size).await?);
            let look = move || {
                let _share = share;
                look(&path)
            };
            seen = Some(tokio::task::spawn_blocking(look).await.map_err(Error::internal)??);
        }
        let Some(seen) = seen else { return Err(Error::internal("a picture was not looked at")) };
        self.seen.insert(original.tag.clone(), seen);
        let Some(make) = choose(wanted, &seen) else { return Ok(itself(original, &seen)) };
        if let Some(file) = made_before(make) {
            return Ok(file);
        }
        if !disk::has_space(&self.media, self.min_free) {
            return Err(full("too little free disk space for a thumbnail"));
        }
        let bytes = if make.moving { moving::memory(seen.bytes) } else { memory(make.shape, seen.bytes) };
        let share = self.workbench.share(bytes.saturating_add(original.size)).await?;
        let (base, tag, name) = (base(make), original.tag, make.name());
        let work = move || {
            let _share = share;
            // Somebody else may have made it while this waited.
            if let Some(file) = kept(&base, &tag, &name) {
                return Ok(file);
            }
            write(&base, make_from(&local.path, &seen, make)?)?;
            kept(&base, &tag, &name).ok_or_else(|| Error::internal("a new thumbnail is not there"))
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }

    /// A file as one that can be decoded. One that is elsewhere is fetched, if it begins like a picture.
    async fn local(&self, original: &File) -> Result<Local> {
        let stored = match &original.place {
            Place::Disk(path) => return Ok(Local { path: path.clone(), _fetched: None }),
            Place::Bucket(stored) => stored,
        };
        // It is never closed.
        let _place = self.fetching.acquire().await;
        let head = gathered(stored.bucket.read(&stored.name, 0..original.size.min(HEAD)).await?).await?;
        let format = image::guess_format(&head).map_err(refuse)?;
        if !format.reading_enabled() {
            return Err(unknown_format(Some(format)));
        }
        if !disk::has_space(&self.media, self.min_free.saturating_add(original.size)) {
            return Err(full("too little free disk space to fetch a picture"));
        }
        let temporary = Temporary(incoming(&self.media));
        let mut file = tokio::fs::File::create_new(&temporary.0).await.map_err(explain)?;
        let mut pieces = stored.bucket.read(&stored.name, 0..original.size).await?;
        while let Some(piece) = pieces.recv().await {
            file.write_all(&piece.map_err(broke_off)?).await.map_err(explain)?;
        }
        file.flush().await.map_err(explain)?;
        Ok(Local { path: temporary.0.clone(), _fetched: Some(temporary) })
    }
}

/// Bytes that it takes to make a thumbnail that stands of a picture that has so many.
fn memory(shape: Shape, bytes: u64) -> u64 {
    match shape {
        Shape::Fit(..) => bytes,
        // What is cut out, or comes out, may be as large again.
        Shape::Square(_) | Shape::Whole => bytes.saturating_mul(2),
    }
}

/// Where thumbnails are, in the folder of media.
pub fn folder_in(media: &Path) -> PathBuf {
    media.join("thumbnails")
}

async fn gathered(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(piece) = pieces.recv().await {
        out.extend_from_slice(&piece.map_err(broke_off)?);
    }
    Ok(out)
}

fn broke_off(error: io::Error) -> Error {
    Error::unavailable("the server's store of files can't be used now: try again later", error)
}

/// The original, said to be what it really is.
fn itself(original: File, seen: &Seen) -> File {
    File { content_type: Some(seen.format.to_mime_type().to_owned()), ..original }
}

/// The smallest size that is not smaller than wanted.
fn smallest(wanted: Wanted) -> Option<Shape> {
    let Wanted { width, height, crop, .. } = wanted;
    match crop {
        true => SQUARES.into_iter().find(|side| *side >= width && *side >= height).map(Shape::Square),
        false => {
            BOXES.into_iter().find(|(wide, high)| *wide >= width && *high >= height).map(|(w, h)| Shape::Fit(w, h))
        }
    }
}

/// What to make. None if the original serves, as pictures are never made larger.
fn choose(wanted: Wanted, seen: &Seen) -> Option<Make> {
    let moving = wanted.animated && seen.animated;
    let smaller = |shape: &Shape| match *shape {
        Shape::Square(side) => seen.width > side && seen.height > side,
        Shape::Fit(width, height) => seen.width > width || seen.height > height,
        Shape::Whole => false,
    };
    let still = (seen.animated && !moving).then_some(Shape::Whole);
    let shape = smallest(wanted).filter(smaller).or(still)?;
    Some(Make { shape, moving })
}

/// A thumbnail that was made before.
fn kept(base: &Path, tag: &str, name: &str) -> Option<File> {
    [("png", "image/png"), ("jpg", "image/jpeg"), ("gif", "image/gif")].into_iter().find_map(|(ending, kind)| {
        let path = base.with_extension(ending);
        let size = fs::metadata(&path).ok()?.len();
        let tag = format!("{tag}-{name}");
        let place = Place::Disk(path);
        Some(File { place, size, tag, content_type: Some(kind.into()), filename: Some(format!("thumbnail.{ending}")) })
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
    let format = reader.format().filter(ImageFormat::reading_enabled).ok_or_else(|| unknown_format(reader.format()))?;
    let size = fs::metadata(path).map_err(explain)?.len();
    if format == ImageFormat::Jpeg && size > MAX_BYTES {
        return Err(Error::too_large("this picture's file is too large for a thumbnail"));
    }
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || bytes > MAX_BYTES {
        return Err(Error::too_large("this picture has too many pixels for a thumbnail"));
    }
    let orientation = orientation(&mut decoder);
    let (width, height) = match is_turned(orientation) {
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
    Ok(Seen { format, width, height, bytes, animated, orientation })
}

fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// Whether a picture stands on its side in its file, as those of cameras do.
fn is_turned(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// Bytes of a thumbnail, and how the name of its file ends.
type Made = (Vec<u8>, &'static str);

/// Decodes a picture and makes a smaller one: one that stands, if it can't move within the bounds. Slow.
fn make_from(path: &Path, seen: &Seen, make: Make) -> Result<Made> {
    let small = |full| shrink(full, make.shape, seen.orientation);
    if make.moving && seen.bytes <= moving::BOUNDS.pixels.saturating_mul(4) {
        let moving = moving::make(path, seen.format, moving::BOUNDS, small).map_err(refuse)?;
        if let Some(bytes) = moving {
            return Ok((bytes, "gif"));
        }
    }
    let decoder = reader(path)?.into_decoder().map_err(refuse)?;
    encoded(small(DynamicImage::from_decoder(decoder).map_err(refuse)?))
}

fn shrink(full: DynamicImage, shape: Shape, orientation: Orientation) -> DynamicImage {
    let (width, height) = (full.width(), full.height());
    let mut small = match shape {
        Shape::Whole => full,
        Shape::Square(side) => {
            let least = width.min(height);
            let middle = full.crop_imm((width - least) / 2, (height - least) / 2, least, least);
            drop(full);
            middle.thumbnail_exact(side, side)
        }
        Shape::Fit(wide, high) => {
            let (wide, high) = if is_turned(orientation) { (high, wide) } else { (wide, high) };
            let (width, height) = fit((width, height), (wide, high));
            full.thumbnail_exact(width, height)
        }
    };
    small.apply_orientation(orientation);
    small
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

/// A picture that stands: PNG where something is transparent, and otherwise JPEG, which is smaller.
fn encoded(picture: DynamicImage) -> Result<Made> {
    let mut bytes = Vec::new();
    if picture.color().has_alpha() {
        let picture = DynamicImage::ImageRgba8(picture.into_rgba8());
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(refuse)?;
        return Ok((bytes, "png"));
    }
    let picture = DynamicImage::ImageRgb8(picture.into_rgb8());
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 82)).map_err(refuse)?;
    Ok((bytes, "jpg"))
}

/// Writes a thumbnail so that it is there whole or not at all.
fn write(base: &Path, (bytes, ending): Made) -> Result<()> {
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

/// AVIF is known and not decoded: there is no decoder in safe Rust that is light enough. Clients show the
/// picture itself then.
fn unknown_format(format: Option<ImageFormat>) -> Error {
    match format {
        Some(format) => no_picture(&format!("{} is not decoded here, show the file itself", format.to_mime_type())),
        None => no_picture("unknown format"),
    }
}

fn no_picture(why: &str) -> Error {
    Error::unknown(format!("there is no thumbnail of this: {why}"))
}

fn refuse(error: ImageError) -> Error {
    match error {
        ImageError::Unsupported(_) => unknown_format(None),
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
        File {
            place: Place::Disk(path),
            size,
            tag: "abcdef".into(),
            content_type: Some("text/html".into()),
            filename: None,
        }
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
        let file = Thumbnails::new(dir.path(), 0).of(original, wanted).await?;
        let (width, height) = image::image_dimensions_of(path_of(&file));
        Ok((width, height, file.content_type.expect("known")))
    }

    fn path_of(file: &File) -> &Path {
        match &file.place {
            Place::Disk(path) => path,
            Place::Bucket(_) => panic!("it is elsewhere"),
        }
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
        let thumbnails = Thumbnails::new(dir.path(), 0);
        let first = thumbnails.of(original.clone(), wanted(300, 200, false)).await.expect("made");
        let written = |file| fs::metadata(path_of(file)).expect("there").modified().expect("a time");
        let before = written(&first);
        let second = thumbnails.of(original, wanted(310, 210, false)).await.expect("kept");
        assert_eq!((path_of(&first), &first.tag), (path_of(&second), &second.tag));
        assert_eq!(written(&second), before);
    }

    #[tokio::test]
    async fn nothing_is_looked_at_or_made_without_memory_for_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let original = saved(dir.path(), &plain(1000, 500), ImageFormat::Jpeg);
        let thumbnails = Thumbnails::new(dir.path(), 0);
        let taken = thumbnails.workbench.all().await;
        let mut making = std::pin::pin!(thumbnails.of(original, wanted(300, 200, false)));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(50), &mut making).await;
        assert!(waits.is_err() && thumbnails.seen.is_empty());
        drop(taken);
        making.await.expect("made");
        drop(thumbnails.workbench.all().await);
    }

    #[tokio::test]
    async fn bombs_and_what_is_no_picture_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = saved(dir.path(), &plain(10, 10), ImageFormat::Png);
        let thumbnails = Thumbnails::new(dir.path(), 0);
        let mut bomb = fs::read(path_of(&file)).expect("read");
        // The width and height in the PNG's header, which says more than there is, and its checksum.
        bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let sum = crc32(&bomb[12..29]).to_be_bytes();
        bomb[29..33].copy_from_slice(&sum);
        fs::write(path_of(&file), &bomb).expect("written");
        let error = thumbnails.of(file.clone(), wanted(32, 32, true)).await.expect_err("too large");
        assert_eq!((error.status().as_u16(), error.errcode()), (413, "M_TOO_LARGE"));
        let path = dir.path().join("text");
        fs::write(&path, "<html>").expect("written");
        let file = File { place: Place::Disk(path), tag: "fedcba".into(), ..file };
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
