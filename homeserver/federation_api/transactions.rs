//! What other servers tell us by themselves. spec: server-server-api#transactions

use std::sync::Arc;

use ruma::api::federation::transactions::send_transaction_message::v1 as send;

use crate::{
    app::App,
    error::{Error, Result},
    federation::edus::Told,
    http::Origin,
};

/// EDUs in one transaction at most. spec: server-server-api#transactions
const MAX_EDUS: usize = 100;

/// `PUT /_matrix/federation/v1/send/{txnId}`
pub async fn send(app: Arc<App>, origin: Origin, request: send::Request) -> Result<send::Response> {
    if request.origin != origin.server {
        let why = format!("its transaction was signed by {}", origin.server);
        app.federation.strangers.complain(origin.ip, &request.origin, &why);
        return Err(Error::forbidden("a server sends only its own transactions"));
    }
    if request.edus.len() > MAX_EDUS {
        return Err(Error::bad_json(format!("a transaction has {MAX_EDUS} EDUs at most")));
    }
    let (server, federation) = (&origin.server, &app.federation);
    let (edus, pdus) = (request.edus, request.pdus);
    let work = || async move {
        let told = Told::new(server, &edus);
        federation.edus.receive(server, told.before).await?;
        let results = federation.arrivals.events(server, pdus).await?;
        federation.edus.receive(server, told.after).await?;
        Ok(results)
    };
    let pdus = federation.arrivals.once(server, request.transaction_id.as_str(), work).await?;
    Ok(send::Response::new(pdus))
}
