//! Our people's files, for other servers. spec: server-server-api#content-repository

use std::sync::Arc;

use ruma::{
    api::federation::authenticated_media::{
        get_content::v1 as get_content, get_content_thumbnail::v1 as get_thumbnail,
    },
    media::Method,
};

use crate::{
    app::App,
    client_api::media::shown_as,
    error::Result,
    http::{Origin, Reply, multipart},
    media::{File, Wanted},
};

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
pub async fn download(app: Arc<App>, _: Origin, request: get_content::Request) -> Result<Reply> {
    app.media.arrival(app.me.name.as_str(), &request.media_id, request.timeout_ms).await?;
    answer(app.media.own(&request.media_id)?).await
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
pub async fn thumbnail(app: Arc<App>, _: Origin, request: get_thumbnail::Request) -> Result<Reply> {
    app.media.arrival(app.me.name.as_str(), &request.media_id, request.timeout_ms).await?;
    let side = |side| u32::try_from(u64::from(side)).unwrap_or(u32::MAX);
    let wanted = Wanted {
        width: side(request.width),
        height: side(request.height),
        crop: request.method == Some(Method::Crop),
        animated: request.animated == Some(true),
    };
    answer(app.media.thumbnail(app.me.name.as_str(), &request.media_id, wanted).await?).await
}

async fn answer(file: File) -> Result<Reply> {
    let pieces = file.read(0..file.size).await?;
    multipart::answer(pieces, file.size, shown_as(file.content_type.as_deref(), file.filename))
}
