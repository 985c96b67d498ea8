//! Orders that come by calls of the API: the same ones as by the admin socket, on their way to the order loop.

use std::convert::Infallible;

use tokio::sync::{mpsc, oneshot};

use crate::control::{OrderFault, ServerOrder};
use crate::server::admin::{Order, Refusal, RefusalCode, Reply};

/// Carries orders and answers for as long as it is polled; dropped, it makes every later call fail at once.
pub(in crate::server) async fn carry(
    calls: Option<mpsc::Receiver<ServerOrder>>,
    orders: mpsc::Sender<(Order, Reply)>,
) -> Infallible {
    if let Some(mut calls) = calls {
        while let Some(ServerOrder { order, mut answer }) = calls.recv().await {
            let order = match serde_json::from_value::<Order>(order) {
                Ok(order) => order,
                Err(error) => {
                    let _gone = answer.send(Err(OrderFault::Refused(error.to_string())));
                    continue;
                }
            };
            let (reply, replied) = oneshot::channel();
            if orders.send((order, Reply::Call(reply))).await.is_err() {
                break;
            }
            tokio::task::spawn_local(async move {
                tokio::select! {
                    // Then the log gets the outcome.
                    () = answer.closed() => {}
                    Ok(outcome) = replied => {
                        let _gone = answer.send(outcome.map_err(fault));
                    }
                }
            });
        }
    }
    // Without calls there is nothing to carry, and nothing that ends.
    std::future::pending().await
}

fn fault(Refusal { code, message }: Refusal) -> OrderFault {
    match code {
        RefusalCode::Busy => OrderFault::Busy(message),
        RefusalCode::Failed => OrderFault::Failed(message),
        RefusalCode::Malformed
        | RefusalCode::TooLong
        | RefusalCode::Late
        | RefusalCode::Forbidden
        | RefusalCode::Refused => OrderFault::Refused(message),
    }
}
