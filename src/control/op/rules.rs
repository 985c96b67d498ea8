//! PutRuleSet, GetRuleSet, ListRuleSets, DeleteRuleSet, TestRuleSet: what operators' rules are.

use serde_json::{Map, Value, json};

use super::authorize::Authorized;
use super::listing::Page;
use super::request::Answer;
use crate::control::fault::{Fault, FieldFault, Thing};
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, RULE_ACTION, RULE_KIND, RULE_NAME};
use crate::control::operation::Operation;
use crate::control::record::RuleSetRecord;
use crate::control::state::Control;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RuleSetId;
use uproar_proto::base::limits::{
    BAN_SECONDS_MAX, CONTENT_CHARS_MAX, REASON_CHARS_MAX, RULE_NAME_CHARS_MAX, RULE_PATTERNS_MAX,
    RULE_SET_BYTES_MAX, RULES_PER_SET_MAX,
};
use uproar_proto::chat::encode::send_time;
use uproar_proto::extension::rules::{Action, CompiledSet, Hit, Kind, Message, Rule, judge};

/// Those of the sets: each by its name.
pub(super) async fn of_sets(
    control: &Control,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    if operation == Operation::PutRuleSet {
        put(control, call).await
    } else if operation == Operation::GetRuleSet {
        get(control, call).await
    } else if operation == Operation::ListRuleSets {
        list(control, call).await
    } else if operation == Operation::DeleteRuleSet {
        delete(control, call).await
    } else {
        test(control, call).await
    }
}

async fn put(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let name = name(&mut input);
    let entries = input.objects("rules", RULES_PER_SET_MAX);
    if entries.is_none() && !input.is_faulty() {
        input.fault("rules", "is required");
    }
    input.finish_known()?;
    let mut rules = Vec::new();
    for (at, entry) in entries.into_iter().flatten().enumerate() {
        rules.push(read(entry, at)?);
    }
    let bytes = serde_json::to_vec(&rules).map_or(usize::MAX, |written| written.len());
    if bytes > RULE_SET_BYTES_MAX {
        let must = format!("must have at most {RULE_SET_BYTES_MAX} bytes; there are {bytes}");
        return Err(Fault::field("rules", must));
    }
    let set = control.put_rule_set(&name, rules).await?;
    Ok((200, Some(show(&set).into())))
}

async fn get(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let name = name(&mut input);
    input.finish()?;
    let set = find(control, &name).await?;
    let mut shown = show(&set);
    shown.insert("rules".to_owned(), set.rules.into());
    Ok((200, Some(shown.into())))
}

async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let page: Page<RuleSetId> = Page::read(&mut input);
    input.finish()?;
    control.registry.barrier().await?;
    let cache = &control.registry.rule_sets;
    Ok(page.answer(cache, "ruleSets", |_| true, show))
}

async fn delete(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let name = name(&mut input);
    input.finish()?;
    if control.remove_rule_set(&name).await? {
        Ok((200, Some(json!({}))))
    } else {
        Err(Fault::missing(Thing::RuleSet, &name))
    }
}

/// Tells what a set would make of a text, without a room and uncounted.
async fn test(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let name = name(&mut input);
    let content = input.required_text("content", 1..=CONTENT_CHARS_MAX, ANY);
    input.finish()?;
    find(control, &name).await?;
    control.registry.shards_have_all().await;
    let rules = &control.gateway.shared().rules;
    let set = rules.look(|sets| sets.get(&*name).cloned());
    let set = set.ok_or_else(|| Fault::missing(Thing::RuleSet, &name))?;
    let message = Message::new(&content, rules.fold());
    let hits = set.compiled.hits(&message);
    let matches: Vec<Value> = hits
        .iter()
        .filter_map(|hit| show_hit(&set.compiled, hit, &content))
        .collect();
    let finding = judge([&*set.compiled], &content, rules.fold());
    let (action, rule, reason) = finding.as_ref().map_or(("none", "", ""), |finding| {
        let rule = finding.rule;
        (rule.action.name(), &*rule.id, &*rule.reason)
    });
    let masked = finding
        .as_ref()
        .and_then(|finding| finding.masked.as_deref());
    Ok((
        200,
        Some(json!({
            "action": action,
            "rule": rule,
            "reason": reason,
            "content": masked.unwrap_or(&content),
            "matches": matches,
        })),
    ))
}

fn name(input: &mut Input) -> String {
    input.required_text("name", 1..=RULE_NAME_CHARS_MAX, RULE_NAME)
}

async fn find(control: &Control, name: &str) -> Result<RuleSetRecord, Fault> {
    let id = RuleSetId::of(name);
    if !control.registry.rule_sets.contains(id) {
        // Perhaps another node has just made it.
        control.registry.barrier().await?;
    }
    let found = control.registry.rule_sets.get(id);
    found.ok_or_else(|| Fault::missing(Thing::RuleSet, name))
}

/// Reads a rule; whether its members fit each other the compiler says.
fn read(mut input: Input, at: usize) -> Result<Rule, Fault> {
    let id = input.required_text("id", 1..=RULE_NAME_CHARS_MAX, RULE_NAME);
    let kind = input.required_text("kind", 1..=16, RULE_KIND);
    let action = input.required_text("action", 1..=16, RULE_ACTION);
    let patterns = input.list("patterns", RULE_PATTERNS_MAX, ANY);
    let allow = input.list("allow", RULE_PATTERNS_MAX, ANY);
    let seconds = input.integer("seconds", 1..=BAN_SECONDS_MAX);
    let reason = input.text("reason", 0..=REASON_CHARS_MAX, ANY);
    // A misspelt member must not make a rule milder than it is meant.
    input.finish_known().map_err(|fault| {
        let Fault::Fields(faults) = fault else {
            return fault;
        };
        let named = faults.into_iter().map(|FieldFault { name, message }| {
            let name = format!("rules.{at}.{name}");
            FieldFault { name, message }
        });
        Fault::Fields(named.collect())
    })?;
    Ok(Rule {
        id,
        kind: Kind::parse(&kind).unwrap_or(Kind::Words),
        patterns: patterns.unwrap_or_default(),
        allow: allow.unwrap_or_default(),
        action: Action::parse(&action).unwrap_or(Action::Reject),
        seconds,
        reason: reason.unwrap_or_default(),
    })
}

fn show(set: &RuleSetRecord) -> Map<String, Value> {
    let (known, _) = set.known();
    let time = |ms| Value::from(send_time(UnixTime::from_millis(ms)));
    let patterns: usize = known.iter().map(Rule::pattern_count).sum();
    Map::from_iter([
        ("name".to_owned(), set.name().into()),
        ("ruleCount".to_owned(), set.rules.len().into()),
        ("patternCount".to_owned(), patterns.into()),
        ("createTime".to_owned(), time(set.header.created_ms)),
        ("updateTime".to_owned(), time(set.header.updated_ms)),
    ])
}

fn show_hit(set: &CompiledSet, hit: &Hit, content: &str) -> Option<Value> {
    let rule = set.rules().get(hit.rule)?;
    let text = content.get(hit.source.clone())?;
    Some(json!({"rule": rule.id, "action": rule.action.name(), "text": text}))
}
