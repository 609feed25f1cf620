//! What was acknowledged is kept: over stops, crashes and disks that are full.

use crate::common::Server;

#[tokio::test]
async fn a_server_that_was_killed_starts_again_at_once() {
    let mut server = Server::start().await;
    for _ in 0..3 {
        server.kill9().await;
        let took = server.resume().await;
        assert!(took.as_secs() < 2, "{took:?}");
        server.guest().get("/_matrix/client/versions").await.ok();
    }
}
