//! Connections that go on with the WebSocket protocol: bytes both ways until either side ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::ending::Ending;
use super::upstream::Lease;

/// Joins both ends once both have changed over. The worker counts as busy until it is over, which an ending ingress brings about.
pub(crate) fn join(client: OnUpgrade, worker: OnUpgrade, lease: Lease, ending: Ending) {
    tokio::spawn(async move {
        let joined = async {
            let (client, worker) = tokio::try_join!(client, worker)?;
            let (mut client, mut worker) = (TokioIo::new(client), TokioIo::new(worker));
            // Either side may break off; that is how most of them end.
            let _ = copy_bidirectional(&mut client, &mut worker).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            result = joined => if let Err(error) = result {
                tracing::debug!(%error, "a protocol change came to nothing");
            },
            () = ending.over() => {}
        }
        drop(lease);
    });
}
