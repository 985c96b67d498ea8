//! StartTally, StopTally, GetTally: polls of a room's members.

use serde_json::{Value, json};

use super::authorize::{Authorized, ResourceArn};
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::{Fault, Thing};
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, ROLE, TALLY_ID};
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use uproar_proto::base::limits::{
    ROLES_MAX, TALLIES_OPEN_MAX, TALLY_ID_CHARS_MAX, TALLY_OPTIONS_MAX, TALLY_SECONDS_MAX,
    TALLY_TEXT_BYTES_MAX,
};
use uproar_proto::extension::settings::Roles;
use uproar_proto::extension::tallies::{TallyFault, TallyOrder};
use uproar_proto::extension::tally::{TallyPlan, TallyView};

pub(super) async fn start(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let id = id(&mut input);
    let question = input.required_text("question", 1..=TALLY_TEXT_BYTES_MAX, ANY);
    let options = options(&mut input);
    let seconds = input.integer("seconds", 1..=TALLY_SECONDS_MAX);
    let roles = input.list("roles", ROLES_MAX, ROLE);
    let may_change = input.boolean("change").unwrap_or_default();
    let plan = TallyPlan {
        id: id.into(),
        question: question.into(),
        options: options.unwrap_or_default(),
        seconds: seconds.unwrap_or_default(),
        roles: roles
            .filter(|roles| !roles.is_empty())
            .and_then(|roles| Roles::parse(&roles.join("+"))),
        may_change,
    };
    if !plan.is_short() {
        let must = format!("and options must have at most {TALLY_TEXT_BYTES_MAX} bytes together");
        input.fault("question", must);
    }
    input.finish_with("seconds", seconds)?;
    follow(control, &arn, TallyOrder::Start(plan)).await
}

pub(super) async fn stop(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let id = id(&mut input);
    input.finish()?;
    follow(control, &arn, TallyOrder::Stop(id.into())).await
}

pub(super) async fn get(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let id = id(&mut input);
    input.finish()?;
    follow(control, &arn, TallyOrder::Get(id.into())).await
}

fn id(input: &mut Input) -> String {
    input.required_text("id", 1..=TALLY_ID_CHARS_MAX, TALLY_ID)
}

/// Two to ten texts, none of them empty.
fn options(input: &mut Input) -> Option<Box<[Box<str>]>> {
    if !input.has("options") {
        input.fault("options", "is required");
        return None;
    }
    let options = input.list("options", TALLY_OPTIONS_MAX, ANY)?;
    if options.len() < 2 || options.iter().any(String::is_empty) {
        let must = format!("must be 2 to {TALLY_OPTIONS_MAX} texts, none of them empty");
        input.fault("options", must);
    }
    Some(options.into_iter().map(Into::into).collect())
}

async fn follow(control: &Control, arn: &ResourceArn, order: TallyOrder) -> Result<Answer, Fault> {
    let room = find_or_wait::<RoomRecord>(control, arn).await?;
    control.registry.shards_have_all().await;
    let id = match &order {
        TallyOrder::Start(plan) => plan.id.to_string(),
        TallyOrder::Stop(id) | TallyOrder::Get(id) => id.to_string(),
    };
    let answer = control.gateway.order_tally(room, order).await;
    let view = answer.map_err(|fault| match fault {
        TallyFault::IsOpen => Fault::Conflict {
            of: Thing::Tally,
            resource_id: id,
            message: "A tally of this id is open",
        },
        TallyFault::TooMany => Fault::Quota {
            limit: TALLIES_OPEN_MAX,
            of: "open tallies of a room",
        },
        TallyFault::Unknown => Fault::missing(Thing::Tally, id),
        TallyFault::Untagged => Fault::conflict(
            &arn.text,
            "The room has no tag uproar:…, so that its members cannot vote; uproar:state=on is enough",
        ),
        TallyFault::NoRoom => Fault::not_found(&arn.text),
        TallyFault::Late => Fault::Late,
    })?;
    Ok((200, Some(show(&view))))
}

fn show(view: &TallyView) -> Value {
    json!({
        "id": view.id,
        "state": view.state(),
        "question": view.question,
        "options": view.options,
        "counts": view.counts,
        "total": view.total(),
        "endsAt": view.ends_at(),
    })
}
