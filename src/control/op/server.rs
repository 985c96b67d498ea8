//! Operations on the server itself, for its operator. Each is an order of the admin socket: the rights, rates and
//! bounds of a call are decided here, everything else there.

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::authorize::Authorized;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::input::pattern::ANY;
use crate::control::record::RoomRecord;
use crate::control::server_order::{OrderFault, ServerOrder};
use crate::control::state::Control;
use uproar_proto::base::limits::{
    ADMIN_ROOMS_MAX, ADMIN_VIEWERS_MAX, DRAIN_MAX, PAGE_ITEMS_MAX, UPGRADE_REFUSAL_MAX,
    USER_ID_CHARS_MAX,
};

const TOKEN_CHARS_MAX: usize = 1024;
const SEARCH_CHARS_MAX: usize = 128;

pub(super) async fn get_history(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let after = input.integer("after", 0..=u32::MAX);
    input.finish_known()?;
    answer(control, json!({"order": "history", "after": after})).await
}

pub(super) async fn find_rooms(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let by = input.text("by", 0..=16, ANY);
    let most = match by {
        Some(_) => u32::try_from(ADMIN_ROOMS_MAX).unwrap_or(u32::MAX),
        None => PAGE_ITEMS_MAX,
    };
    let mut order = json!({"order": "rooms", "by": by});
    order["count"] = input.integer("maxResults", 1..=most).into();
    order["token"] = input.text("nextToken", 0..=TOKEN_CHARS_MAX, ANY).into();
    order["text"] = input.text("text", 0..=SEARCH_CHARS_MAX, ANY).into();
    input.finish_known()?;
    let (status, mut body) = answer(control, order).await?;
    if let Some(Value::Object(body)) = &mut body
        && let Some(token) = body.remove("token")
    {
        body.insert("nextToken".to_owned(), token);
    }
    Ok((status, body))
}

pub(super) async fn find_user(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let user = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    input.finish_known()?;
    answer(control, json!({"order": "user", "user": user})).await
}

pub(super) async fn describe_room(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let most = u32::try_from(ADMIN_VIEWERS_MAX).unwrap_or(u32::MAX);
    let viewers = input.integer("maxViewers", 0..=most).unwrap_or_default();
    input.finish_known()?;
    // By its ARN alone: a key for some rooms reaches no other one by a name.
    find_or_wait::<RoomRecord>(control, &arn).await?;
    let order = json!({"order": "room", "room": arn.text, "viewers": viewers});
    answer(control, order).await
}

pub(super) async fn drain(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let most = u32::try_from(DRAIN_MAX.as_secs()).expect("a day");
    let mut order = json!({"order": "drain"});
    order["notice_s"] = input.integer("noticeSeconds", 0..=most).into();
    order["over_s"] = input.integer("overSeconds", 0..=most).into();
    order["force"] = input.boolean("force").unwrap_or_default().into();
    input.finish_known()?;
    answer(control, order).await
}

/// Answers when it has begun: the listener that would carry the outcome pauses for it.
pub(super) async fn upgrade(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    // The program is the one that this process was started from: a key runs no other one.
    let or_restart = input.boolean("orRestart").unwrap_or_default();
    input.finish_known()?;
    let order = json!({"order": "upgrade", "or_restart": or_restart});
    let answered = given(control, order).await?;
    match timeout(UPGRADE_REFUSAL_MAX, answered).await {
        Ok(Ok(outcome)) => Ok((200, Some(camel(outcome?)))),
        Ok(Err(_)) | Err(_) => Ok((202, Some(json!({"begun": true})))),
    }
}

/// An order without members.
pub(super) async fn plain(
    control: &Control,
    call: Authorized,
    order: &str,
) -> Result<Answer, Fault> {
    call.into_input().finish_known()?;
    answer(control, json!({ "order": order })).await
}

/// Waits until an order is done.
async fn answer(control: &Control, order: Value) -> Result<Answer, Fault> {
    match given(control, order).await?.await {
        Ok(outcome) => Ok((200, Some(camel(outcome?)))),
        Err(_ending) => Err(ending()),
    }
}

/// Gives an order. Members without a value are left out.
async fn given(
    control: &Control,
    mut order: Value,
) -> Result<oneshot::Receiver<Result<Value, OrderFault>>, Fault> {
    if let Value::Object(members) = &mut order {
        members.retain(|_, value| !value.is_null());
    }
    let orders = control.settings.orders.as_ref();
    let orders = orders.ok_or(Fault::UnknownOperation)?;
    let (answer, answered) = oneshot::channel();
    let sent = orders.send(ServerOrder { order, answer }).await;
    sent.map_err(|_ending| ending())?;
    Ok(answered)
}

fn ending() -> Fault {
    OrderFault::Failed("the server is ending".to_owned()).into()
}

/// Members whose own members users have named.
const FOREIGN: [&str; 2] = ["settings", "named"];

/// Names of members as the API writes them: `viewers_max` is `viewersMax`.
fn camel(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let renamed = members.into_iter().map(|(name, value)| {
                let is_foreign = FOREIGN.contains(&&*name);
                let value = if is_foreign { value } else { camel(value) };
                (camel_name(&name), value)
            });
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(camel).collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

fn camel_name(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: answers have the API's names, and what users have named keeps theirs.
    #[test]
    fn names_are_the_apis_but_not_those_of_users() {
        let told = json!({"viewers_max": 1, "shards": [{"cpu_ms": 2}], "named": [{"Attributes": {"display_name": "x"}}],
            "settings": {"tags": {"my_team": "y"}}});
        let wanted = json!({"viewersMax": 1, "shards": [{"cpuMs": 2}], "named": [{"Attributes": {"display_name": "x"}}],
            "settings": {"tags": {"my_team": "y"}}});
        assert_eq!(camel(told), wanted);
    }
}
