//! CreateLoggingConfiguration, GetLoggingConfiguration, UpdateLoggingConfiguration,
//! DeleteLoggingConfiguration, ListLoggingConfigurations.

use serde_json::{Map, Value, json};

use super::authorize::Authorized;
use super::listing::Page;
use super::request::Answer;
use super::resource::{self, find, name, new_header, now_ms};
use super::tags;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::{BUCKET, LOG_GROUP, STREAM};
use crate::control::record::{Destination, LoggingRecord, LoggingState, Record};
use crate::control::state::Control;
use uproar_proto::base::limits::LOGGING_CONFIGURATIONS_MAX;

const DESTINATION: &str = "destinationConfiguration";

pub(super) async fn create(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let name = name(&mut input);
    let tags = tags::read(&mut input);
    let destination = destination(&mut input);
    let destination = input.finish_with(DESTINATION, destination)?;
    let mut header = new_header::<LoggingRecord>(control)?;
    header.name = name;
    header.tags = tags.unwrap_or_default();
    let record = LoggingRecord {
        header,
        destination,
        state: LoggingState::Active,
    };
    let inserted = control
        .registry
        .insert(record.clone(), LOGGING_CONFIGURATIONS_MAX);
    inserted.await?;
    tell_archive(control, &record);
    Ok((200, Some(show(control, &record).into())))
}

/// In a cluster the registry has told the archive, in the order of all nodes' changes.
fn tell_archive(control: &Control, record: &LoggingRecord) {
    if !control.registry.is_shared() {
        let archive = &control.settings.archive;
        archive.put(record.id(), record.destination.clone());
    }
}

pub(super) async fn get(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    control.registry.barrier().await?;
    let id = find::<LoggingRecord>(control, &arn)?;
    let record = control.registry.logging.get(id);
    let record = record.ok_or_else(|| Fault::not_found(&arn.text))?;
    Ok((200, Some(show(control, &record).into())))
}

pub(super) async fn update(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let name = name(&mut input);
    let destination = destination(&mut input);
    input.finish()?;
    control.registry.barrier().await?;
    let id = find::<LoggingRecord>(control, &arn)?;
    let change = |record: &mut LoggingRecord| {
        record.header.name = name.clone().or(record.header.name.take());
        if let Some(destination) = &destination {
            record.destination.clone_from(destination);
        }
    };
    let registry = &control.registry;
    let changed = registry.change_logging(&arn.text, id, now_ms(control), change);
    let record = changed.await?.ok_or_else(|| Fault::not_found(&arn.text))?;
    tell_archive(control, &record);
    Ok((200, Some(show(control, &record).into())))
}

pub(super) async fn delete(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    control.registry.barrier().await?;
    let id = find::<LoggingRecord>(control, &arn)?;
    if control.registry.remove_logging(&arn.text, id).await? {
        if !control.registry.is_shared() {
            control.settings.archive.remove(id);
        }
        Ok((204, None))
    } else {
        Err(Fault::not_found(&arn.text))
    }
}

pub(super) async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let page = Page::read(&mut input);
    input.finish()?;
    control.registry.barrier().await?;
    let cache = &control.registry.logging;
    let show = |record: &LoggingRecord| show(control, record);
    Ok(page.answer(cache, "loggingConfigurations", |_| true, show))
}

/// A union: exactly one of its members.
pub(super) fn destination(input: &mut Input) -> Option<Destination> {
    let read = |union: &mut Input| {
        let s3 = union.object("s3", |s3| Destination::S3 {
            bucket_name: s3.required_text("bucketName", 3..=63, BUCKET),
        });
        let cloud_watch_logs = union.object("cloudWatchLogs", |logs| Destination::CloudWatchLogs {
            log_group_name: logs.required_text("logGroupName", 1..=512, LOG_GROUP),
        });
        let firehose = union.object("firehose", |firehose| Destination::Firehose {
            delivery_stream_name: firehose.required_text("deliveryStreamName", 1..=64, STREAM),
        });
        [s3, cloud_watch_logs, firehose]
    };
    let mut given = input.object(DESTINATION, read)?.into_iter().flatten();
    let (first, second) = (given.next(), given.next());
    if first.is_some() && second.is_none() {
        return first;
    }
    input.fault(
        DESTINATION,
        "must have exactly one of s3, cloudWatchLogs, firehose",
    );
    None
}

fn show(control: &Control, record: &LoggingRecord) -> Map<String, Value> {
    let mut members = resource::show(control, record);
    members.insert(DESTINATION.to_owned(), json!(record.destination));
    members.insert("state".to_owned(), record.state.as_str().into());
    members
}
