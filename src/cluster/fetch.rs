//! Reads a log: its end, or the records behind one that is known.
//!
//! What the newest record is, the stream's leader says (`STREAM.MSG.GET`), because an answer of a replica that lags would
//! be taken for a verdict about an append. The records up to that one are read in batches from any replica (`DIRECT.GET`):
//! a replica has records in order and without holes, so one that lags only has fewer, and what is missing then is asked
//! of the leader, one by one.

use async_nats::StatusCode;
use bytes::Bytes;
use futures_util::StreamExt;

use super::calls::{CallFault, Calls, stream_of};
use uproar_proto::base::limits::{
    CLUSTER_ANSWER_MAX, CLUSTER_FETCH_BYTES_MAX, CLUSTER_FETCH_RECORDS_MAX,
};
use uproar_proto::cluster::engine::{FetchFrom, Fetched};
use uproar_proto::cluster::record::Record;
use uproar_proto::cluster::{HashSlot, Sequence};

/// Reads from `from` on, as much as one answer may have.
///
/// # Errors
///
/// No answer in time.
pub(super) async fn fetch(
    calls: &Calls,
    slot: HashSlot,
    from: FetchFrom,
) -> Result<Fetched, CallFault> {
    let (stream, subject) = (stream_of(&calls.names, slot), calls.names.log(slot));
    let newest = calls
        .stored(&stream, &subject, None, CLUSTER_ANSWER_MAX)
        .await?;
    let Some(newest) = newest else {
        return Ok(whole(Vec::new(), Sequence(0)));
    };
    let last = Sequence(newest.sequence);
    let newest = (last, newest.payload);
    let FetchFrom::After(after) = from else {
        return Ok(whole(vec![newest], last));
    };
    if last <= after {
        return Ok(whole(Vec::new(), last));
    }
    let follows = Record::decode(&newest.1).is_ok_and(|record| record.previous == after);
    if follows {
        return Ok(whole(vec![newest], last));
    }
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut known = after;
    while known < last
        && records.len() < CLUSTER_FETCH_RECORDS_MAX
        && bytes < CLUSTER_FETCH_BYTES_MAX
    {
        let mut batch = batch(calls, &stream, &subject, known).await?;
        if batch.is_empty() {
            // The replica lags.
            let after = Some(known.0);
            let next = calls
                .stored(&stream, &subject, after, CLUSTER_ANSWER_MAX)
                .await?;
            let Some(next) = next else { break };
            batch.push((Sequence(next.sequence), next.payload));
        }
        for (sequence, payload) in batch {
            if sequence > known {
                known = sequence;
                bytes += payload.len();
                records.push((sequence, payload));
            }
        }
    }
    let is_complete = known >= last;
    Ok(Fetched {
        records,
        is_complete,
        last,
    })
}

fn whole(records: Vec<(Sequence, Bytes)>, last: Sequence) -> Fetched {
    Fetched {
        records,
        is_complete: true,
        last,
    }
}

/// The next records behind `after`, as some replica has them.
async fn batch(
    calls: &Calls,
    stream: &str,
    subject: &str,
    after: Sequence,
) -> Result<Vec<(Sequence, Bytes)>, CallFault> {
    let unanswered = |cause: &str| CallFault::Unanswered(cause.to_owned());
    let client = calls.client();
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| unanswered(&error.to_string()))?;
    let request = serde_json::json!({
        "seq": after.0 + 1,
        "next_by_subj": subject,
        "batch": CLUSTER_FETCH_RECORDS_MAX,
        "max_bytes": CLUSTER_FETCH_BYTES_MAX,
    });
    let call = format!("$JS.API.DIRECT.GET.{stream}");
    let sent = client.publish_with_reply(call, inbox, request.to_string().into());
    sent.await.map_err(|error| unanswered(&error.to_string()))?;
    let mut records = Vec::new();
    loop {
        let answer = tokio::time::timeout(CLUSTER_ANSWER_MAX, answers.next()).await;
        let answer = answer.map_err(|_| unanswered("no answer to a read"))?;
        let Some(answer) = answer else { break };
        match answer.status {
            None | Some(StatusCode::OK) => {}
            // The end of the batch, and a subject without messages.
            Some(_) => break,
        }
        let sequence = answer
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Sequence"));
        let sequence = sequence.and_then(|text| text.as_str().parse().ok());
        let Some(sequence) = sequence else { break };
        records.push((Sequence(sequence), answer.payload));
    }
    Ok(records)
}
