//! Files: uploading, downloading, thumbnails. spec: client-server-api#content-repository

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header, request::Parts};
use ruma::{
    api::{
        IncomingRequest, IncomingRequestExt,
        auth_scheme::AccessToken,
        client::{
            authenticated_media::{get_content_thumbnail, get_media_config, get_media_preview},
            media as unauthenticated,
        },
    },
    http_headers::{ContentDisposition, ContentDispositionType},
    media::Method,
};

use crate::{
    app::App,
    error::{Error, Result},
    http::{
        Bucket, Reply, Session,
        admit::{Admit, Peer},
        ranges, reply, stream,
    },
    media::{About, File, Wanted},
};

/// How long media that are announced are waited for, unless the client says otherwise.
const PATIENCE: Duration = Duration::from_secs(20);

/// Content types that a browser may show at once. spec: client-server-api#serving-inline-content
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// What keeps a file from doing anything in a browser. The policy is the one that the spec recommends;
/// media belong to those who may see them, so no shared cache keeps them.
const GUARDS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
             style-src 'unsafe-inline'; object-src 'self';",
        ),
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
];

/// `POST /_matrix/media/v3/upload`
pub async fn upload(app: Arc<App>, request: stream::Request, _: Vec<String>) -> Result<Reply> {
    let announced = stream::least_size(&request);
    let peer = Peer::of(&request);
    let (head, body) = request.into_parts();
    let session = AccessToken::admit(&app, &head, peer).await?;
    session.may_act()?;
    app.limits.take(Bucket::Media, &session.user)?;
    app.media.check_size(announced)?;
    app.media.check_quota(&session.user, announced)?;
    let asked: unauthenticated::create_content::v3::Request = without_body(head, &[])?;
    let about = About { content_type: asked.content_type, filename: asked.filename };
    let uri = app.media.upload(&session.user, about, stream::pieces(body)).await?;
    reply::typed(unauthenticated::create_content::v3::Response::new(uri))
}

/// `POST /_matrix/media/v1/create`
pub async fn announce(
    app: Arc<App>,
    session: Session,
    _: unauthenticated::create_mxc_uri::v1::Request,
) -> Result<unauthenticated::create_mxc_uri::v1::Response> {
    session.may_act()?;
    app.limits.take(Bucket::Media, &session.user)?;
    let (uri, expires) = app.media.announce(&session.user).await?;
    let mut response = unauthenticated::create_mxc_uri::v1::Response::new(uri);
    response.unused_expires_at = ruma::UInt::try_from(expires).ok().map(ruma::MilliSecondsSinceUnixEpoch);
    Ok(response)
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
pub async fn fulfil(app: Arc<App>, request: stream::Request, path: Vec<String>) -> Result<Reply> {
    let announced = stream::least_size(&request);
    let peer = Peer::of(&request);
    let (head, body) = request.into_parts();
    let session = AccessToken::admit(&app, &head, peer).await?;
    session.may_act()?;
    app.limits.take(Bucket::Media, &session.user)?;
    let [server, id] = &path[..] else { return Err(Error::unrecognized()) };
    app.media.check_announced(&session.user, server, id)?;
    app.media.check_size(announced)?;
    app.media.check_quota(&session.user, announced)?;
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let asked: unauthenticated::create_content_async::v3::Request = without_body(head, &path)?;
    let about = About { content_type: asked.content_type, filename: asked.filename };
    app.media.fulfil(&session.user, (server, id), about, stream::pieces(body)).await?;
    reply::json(&serde_json::json!({}))
}

/// How long a client wants to wait for media that are announced and have not come.
fn patience(head: &Parts) -> Result<Duration> {
    let asked = head.uri.query().unwrap_or_default().split('&').find_map(|part| part.strip_prefix("timeout_ms="));
    let Some(millis) = asked else { return Ok(PATIENCE) };
    let millis = millis.parse().map_err(|_| Error::invalid_param("timeout_ms is a number of milliseconds"))?;
    Ok(Duration::from_millis(millis))
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`, and with `/{fileName}`
pub async fn download(app: Arc<App>, request: stream::Request, path: Vec<String>) -> Result<Reply> {
    let head = admitted(&app, request).await?;
    let [server, id, name @ ..] = &path[..] else { return Err(Error::unrecognized()) };
    app.media.arrival(server, id, patience(&head)?).await?;
    let mut file = app.media.file(server, id).await?;
    if let [name] = name {
        file.filename = Some(name.clone());
    }
    answer((&head.method, &head.headers), file).await
}

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`
pub async fn thumbnail(app: Arc<App>, request: stream::Request, path: Vec<String>) -> Result<Reply> {
    let head = admitted(&app, request).await?;
    let (method, headers) = (head.method.clone(), head.headers.clone());
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let asked: get_content_thumbnail::v1::Request = without_body(head, &path)?;
    let side = |side| u32::try_from(u64::from(side)).unwrap_or(u32::MAX);
    let wanted = Wanted {
        width: side(asked.width),
        height: side(asked.height),
        crop: asked.method == Some(Method::Crop),
        animated: asked.animated == Some(true),
    };
    app.media.arrival(asked.server_name.as_str(), &asked.media_id, asked.timeout_ms).await?;
    let file = app.media.thumbnail(asked.server_name.as_str(), &asked.media_id, wanted).await?;
    answer((&method, &headers), file).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`, and with `/{fileName}`
pub async fn old_download(app: Arc<App>, request: stream::Request, path: Vec<String>) -> Result<Reply> {
    check_says_who(&request)?;
    download(app, request, path).await
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`
pub async fn old_thumbnail(app: Arc<App>, request: stream::Request, path: Vec<String>) -> Result<Reply> {
    check_says_who(&request)?;
    thumbnail(app, request, path).await
}

/// The endpoints of before version 1.11 are frozen: to strangers they serve only what was uploaded before that,
/// which is nothing. Apps of that time that say who asks all the same are served as everywhere.
/// spec: client-server-api#content-repo-client-behaviour
fn check_says_who(request: &stream::Request) -> Result<()> {
    match request.headers().contains_key(header::AUTHORIZATION) {
        true => Ok(()),
        false => Err(Error::not_found("media are served at /_matrix/client/v1/media, with an access token")),
    }
}

/// `GET /_matrix/client/v1/media/config`
pub async fn config(
    app: Arc<App>,
    _: Session,
    _: get_media_config::v1::Request,
) -> Result<get_media_config::v1::Response> {
    Ok(get_media_config::v1::Response::new(app.config.max_upload.try_into().unwrap_or(ruma::UInt::MAX)))
}

/// `GET /_matrix/media/v3/config`
#[expect(deprecated, reason = "older clients ask here")]
pub async fn old_config(
    app: Arc<App>,
    _: Session,
    _: unauthenticated::get_media_config::v3::Request,
) -> Result<unauthenticated::get_media_config::v3::Response> {
    let max = app.config.max_upload.try_into().unwrap_or(ruma::UInt::MAX);
    Ok(unauthenticated::get_media_config::v3::Response::new(max))
}

/// `GET /_matrix/client/v1/media/preview_url`
pub async fn preview(app: Arc<App>, session: Session, request: get_media_preview::v1::Request) -> Result<Reply> {
    app.limits.take(Bucket::UserSearch, &session.user)?;
    reply::json(&app.media.preview(&request.url).await?)
}

/// The head of a request whose sender has a session and has not asked for too much.
async fn admitted(app: &App, request: stream::Request) -> Result<Parts> {
    let peer = Peer::of(&request);
    let (head, _) = request.into_parts();
    let session = AccessToken::admit(app, &head, peer).await?;
    app.limits.take(Bucket::Download, &session.user)?;
    Ok(head)
}

/// The typed arguments of a request, whose body is read otherwise or not at all.
fn without_body<R: IncomingRequest>(mut head: Parts, path: &[&str]) -> Result<R> {
    head.method = R::METHOD;
    let parsed = R::try_from_http_request(Request::from_parts(head, &b""[..]), path);
    parsed.map_err(|error| Error::invalid_param(error.to_string()))
}

/// A file with everything that makes it safe to show.
async fn answer(asked: (&http::Method, &HeaderMap), file: File) -> Result<Reply> {
    let mut reply = ranges::answer(asked, (file.size, &file.tag), async |part| file.read(part).await).await?;
    let (kind, disposition) = shown_as(file.content_type.as_deref(), file.filename);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.extend(GUARDS);
    Ok(reply)
}

/// The `Content-Type` and `Content-Disposition` of a file, whatever its owner said they are.
pub fn shown_as(content_type: Option<&str>, filename: Option<String>) -> (HeaderValue, HeaderValue) {
    let given = content_type.filter(|kind| !kind.is_empty()).and_then(|kind| HeaderValue::from_str(kind).ok());
    let kind = given.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let filename = filename.map(|name| name.replace(is_misleading, ""));
    let disposition = ContentDisposition::new(disposition(&kind)).with_filename(filename).to_string();
    let disposition = HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment"));
    (kind, disposition)
}

/// Letters that make a name look like another: those that turn the direction of the text, so that an `exe` looks
/// like a `gpj` from behind, and those that can't be seen at all.
fn is_misleading(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn disposition(content_type: &HeaderValue) -> ContentDispositionType {
    let text = content_type.to_str().unwrap_or_default();
    // Of several types a browser takes the last. https://fetch.spec.whatwg.org/#concept-header-extract-mime-type
    let essence = text.split(';').next().filter(|_| !text.contains(',')).unwrap_or_default().trim();
    match INLINE.iter().any(|kind| kind.eq_ignore_ascii_case(essence)) {
        true => ContentDispositionType::Inline,
        false => ContentDispositionType::Attachment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Place;

    async fn headers(content_type: &str, filename: &str) -> HeaderMap {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, "x").expect("written");
        let (content_type, filename) = (Some(content_type.into()), Some(filename.into()));
        let file = File { place: Place::Disk(path), size: 1, tag: "t".into(), content_type, filename };
        answer((&http::Method::GET, &HeaderMap::new()), file).await.expect("answered").headers().clone()
    }

    #[tokio::test]
    async fn files_are_guarded_and_shown_only_if_that_is_safe() {
        let text = headers("Text/Plain; charset=utf-8", "a.txt").await;
        assert_eq!(text[header::CONTENT_DISPOSITION], "inline; filename=a.txt");
        assert_eq!(text[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(text["cross-origin-resource-policy"], "cross-origin");
        assert!(text[header::CONTENT_SECURITY_POLICY].to_str().expect("text").starts_with("sandbox; default-src"));
        let several = "text/plain;charset=utf-8, text/html";
        for dangerous in ["text/html", "image/svg+xml", "application/xhtml+xml", "text/plainx", several, ""] {
            let page = headers(dangerous, "a").await;
            assert_eq!(page[header::CONTENT_DISPOSITION], "attachment; filename=a", "{dangerous}");
        }
    }

    #[tokio::test]
    async fn names_cannot_break_out_of_their_header() {
        let nasty = headers("text/html", "a\"b\r\nX: y").await;
        let disposition = nasty[header::CONTENT_DISPOSITION].to_str().expect("text");
        assert_eq!(disposition, "attachment; filename=\"a\\\"bX: y\"");
        let foreign = headers("text/html", "käse\n.html").await;
        let disposition = foreign[header::CONTENT_DISPOSITION].to_str().expect("text");
        assert!(disposition.starts_with("attachment; filename*=utf-8''k%C3%A4se"), "{disposition}");
        let turned = headers("image/png", "photo\u{202e}gnp.exe\u{2066}\0").await;
        assert_eq!(turned[header::CONTENT_DISPOSITION], "inline; filename=photognp.exe");
        let hebrew = headers("text/html", "שלום.html").await;
        let disposition = hebrew[header::CONTENT_DISPOSITION].to_str().expect("text");
        assert!(disposition.starts_with("attachment; filename*=utf-8''%D7%A9"), "{disposition}");
        let binary = headers("text/\nhtml", "a").await;
        assert_eq!(binary[header::CONTENT_TYPE], "application/octet-stream");
    }
}
