//! docs/api.md's reference of operations, made from the table of operations, the roles of keys, and the model for botocore.
//!
//! `UPROAR_WRITE_DOCS=1 cargo test -p uproar --lib reference` writes it again.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::roles_with;
use crate::control::operation::{Family, Operation};

const BEGIN: &str =
    "<!-- operations: begin (UPROAR_WRITE_DOCS=1 cargo test -p uproar --lib reference) -->\n";
const END: &str = "<!-- operations: end -->\n";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The model's own words, which are HTML.
fn plain(documentation: &Value) -> String {
    let text = text(documentation);
    text.replace("<p>", "").replace("</p>", "")
}

struct Model(Value);

impl Model {
    fn shape(&self, name: &str) -> &Value {
        &self.0["shapes"][name]
    }

    /// What a member of this shape is, in few words.
    fn kind(&self, name: &str) -> String {
        let shape = self.shape(name);
        match text(&shape["type"]) {
            "list" => format!("list of {}", self.kind(text(&shape["member"]["shape"]))),
            "map" => "object of texts".to_owned(),
            "structure" => {
                let members = shape["members"].as_object().expect("members");
                let names: Vec<String> = members.keys().map(|name| format!("`{name}`")).collect();
                format!("object of {}", names.join(", "))
            }
            "string" => "text".to_owned(),
            "timestamp" => "time".to_owned(),
            "integer" | "long" => "integer".to_owned(),
            "double" => "number".to_owned(),
            other => other.to_owned(),
        }
    }

    /// A row for each member, those of objects in it below it.
    fn rows(&self, out: &mut String, shape: &str, inside: &str) {
        let shape = self.shape(shape);
        let required = shape["required"].as_array();
        let members = shape["members"].as_object().expect("members");
        for (name, member) in members {
            let is_required =
                required.is_some_and(|required| required.iter().any(|one| text(one) == name));
            let kind = self.kind(text(&member["shape"]));
            let must = if is_required { "required" } else { "" };
            let meaning = plain(&member["documentation"]);
            let _infallible = writeln!(out, "| `{inside}{name}` | {kind} | {must} | {meaning} |");
            if let Some(inner) = self.structure_in(text(&member["shape"])) {
                self.rows(out, inner, &format!("{inside}{name}."));
            }
        }
    }

    /// The structure that a member is, or that a list's items are.
    fn structure_in<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let shape = self.shape(name);
        match text(&shape["type"]) {
            "structure" => Some(name),
            "list" => self.structure_in(text(&shape["member"]["shape"])),
            _ => None,
        }
    }
}

fn index(out: &mut String) {
    out.push_str("| operation | request | rate | role |\n|---|---|---|---|\n");
    for operation in of(Family::Ivs) {
        let (method, path) = operation.route();
        let (name, rate) = (operation.name(), operation.aws_rate());
        let roles = roles_with(operation).join(", ");
        let _infallible = writeln!(out, "| `{name}` | `{method} {path}` | {rate} | {roles} |");
    }
}

fn of(family: Family) -> Vec<Operation> {
    let all = Operation::ALL.iter().copied();
    let mut own: Vec<Operation> = all
        .filter(|operation| operation.family() == family)
        .collect();
    own.sort_unstable_by_key(|operation| operation.name());
    own
}

fn extension(out: &mut String, operation: Operation, model: &Model) {
    let name = operation.name();
    let described = &model.0["operations"][name];
    let (method, path) = operation.route();
    let (rate, roles) = (operation.aws_rate(), roles_with(operation).join(", "));
    let meaning = plain(&described["documentation"]);
    let _infallible = writeln!(
        out,
        "\n### {name}\n\n{meaning} `{method} {path}`, {rate} a second; role {roles}.\n"
    );
    out.push_str("| member | is | | meaning |\n|---|---|---|---|\n");
    model.rows(out, text(&described["input"]["shape"]), "");
    let mut answer = String::new();
    model.rows(&mut answer, text(&described["output"]["shape"]), "");
    if answer.is_empty() {
        out.push_str("\nAnswer: `{}`.");
    } else {
        out.push_str("\n| member of the answer | is | | meaning |\n|---|---|---|---|\n");
        out.push_str(&answer);
    }
    let errors = described["errors"].as_array().expect("errors").iter();
    let errors: Vec<String> = errors
        .map(|error| {
            let shape = text(&error["shape"]);
            let status = &model.shape(shape)["error"]["httpStatusCode"];
            format!("{status} `{shape}`")
        })
        .collect();
    let _infallible = writeln!(out, "\nErrors: {}.", errors.join(", "));
}

fn generated() -> String {
    let model = fs::read_to_string(file("deploy/botocore/uproar/2026-11-01/service-2.json"));
    let model = Model(serde_json::from_str(&model.expect("it is shipped")).expect("JSON"));
    let mut out = String::new();
    index(&mut out);
    out.push_str(
        "\nMembers of requests and answers: [contract.md](contract.md#34-operations), or any AWS SDK's documentation. \
         Refusals: [errors](errors.md#exceptions-of-the-api).\n\n\
         ## Operations beyond the service\n\n\
         What they do together is told in [features](features.md). They are there with `extensions.enabled`; \
         [deploy/botocore](../deploy/botocore) has the same as a model for boto3 and the AWS CLI.\n",
    );
    for operation in of(Family::Extension) {
        extension(&mut out, operation, &model);
    }
    out.push('\n');
    out
}

/// Goal: the reference is that of this program: members, types, limits, errors, roles and rates. Method: it is made again
/// and compared; with `UPROAR_WRITE_DOCS=1` it is written.
#[test]
fn the_reference_of_operations_is_current() {
    let path = file("docs/api.md");
    let page = fs::read_to_string(&path).expect("a page");
    let (before, rest) = page.split_once(BEGIN).expect("a mark where it begins");
    let (stands, after) = rest.split_once(END).expect("a mark where it ends");
    let generated = generated();
    if std::env::var_os("UPROAR_WRITE_DOCS").is_some() {
        let page = format!("{before}{BEGIN}{generated}{END}{after}");
        fs::write(&path, page).expect("written");
        return;
    }
    assert!(
        stands == generated,
        "docs/api.md is not current: UPROAR_WRITE_DOCS=1 cargo test -p uproar --lib reference"
    );
}
