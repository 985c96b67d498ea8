//! The picture of a look: lines of text that fit a width and a height.

use serde_json::Value;

use super::look::{Look, number};
use crate::cli::output::printable;

/// Rows of the shards' table; the busiest are shown.
const SHARD_ROWS_MAX: usize = 4;
/// Shards in one of its rows.
const SHARDS_A_ROW: usize = 3;

/// The lines, at most `rows` of at most `columns` characters.
pub(super) fn view(look: &Look, columns: usize, rows: usize) -> Vec<String> {
    let mut lines = vec![server(look), state(look), crowd(look), traffic(look)];
    lines.extend(fanout(look));
    lines.push(memory(look));
    lines.push(String::new());
    lines.extend(shards(look));
    lines.push(String::new());
    lines.extend(rooms(look, columns));
    lines.truncate(rows);
    for line in &mut lines {
        *line = line.chars().take(columns).collect();
    }
    lines
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn server(look: &Look) -> String {
    let stats = &look.stats;
    let up = stats["uptime_ms"].as_u64().unwrap_or_default() / 1000;
    let (days, hours, minutes, seconds) = (up / 86_400, up / 3600 % 24, up / 60 % 60, up % 60);
    let (version, pid) = (text(&stats["version"]), &stats["pid"]);
    format!("uproar {version}, process {pid}, up {days}d {hours:02}:{minutes:02}:{seconds:02}")
}

fn state(look: &Look) -> String {
    let stats = &look.stats;
    let ready = if stats["ready"].as_bool() == Some(true) {
        "ready"
    } else {
        "NOT READY"
    };
    let state = format!("{}, {ready}", text(&stats["state"]));
    let cluster = &stats["cluster"];
    if cluster.is_null() {
        return format!("{state}; a server alone");
    }
    let (node, name) = (text(&cluster["node"]), text(&cluster["name"]));
    let unready = cluster["unready"].as_str();
    let unready = unready.map_or_else(String::new, |why| format!(": {}", printable(why)));
    format!(
        "{state}; node {node} of {name}, {} nodes live, home of {} slots{unready}",
        cluster["nodes"], cluster["slots_home"]
    )
}

fn crowd(look: &Look) -> String {
    let stats = &look.stats;
    format!(
        "viewers {} of {}   +{}/s -{}/s   handshakes {}   rooms {}",
        short(number(stats, "/viewers")),
        short(number(stats, "/viewers_max")),
        short(look.per_second("/totals/opened")),
        short(look.per_second("/totals/closed")),
        short(number(stats, "/handshakes")),
        short(number(stats, "/rooms")),
    )
}

fn traffic(look: &Look) -> String {
    let rate = |key: &str| short(look.per_second(&format!("/totals/{key}")));
    format!(
        "in {}/s {}B/s   out {}/s {}B/s   refused {}/s   shed {}/s",
        rate("received"),
        rate("bytes_received"),
        rate("delivered"),
        rate("bytes_sent"),
        rate("refused"),
        rate("shed"),
    )
}

fn fanout(look: &Look) -> Option<String> {
    let grown = look.grown("/fanout")?;
    let quantile = |wanted| {
        let seconds = grown.quantile(wanted);
        seconds.map_or_else(
            || "-".to_owned(),
            |seconds| format!("{:.1} ms", seconds * 1000.0),
        )
    };
    Some(format!(
        "fan-out p50 {}   p99 {}",
        quantile(0.5),
        quantile(0.99)
    ))
}

fn memory(look: &Look) -> String {
    let memory = look.stats["memory"].as_object().into_iter().flatten();
    let part = |(key, bytes): (&String, &Value)| {
        let bytes = bytes.as_f64().unwrap_or_default();
        let name = key.replace('_', " ");
        (bytes, format!("{name} {}B", short(bytes)))
    };
    let mut parts: Vec<_> = memory.map(part).collect();
    parts.sort_by(|one, other| other.0.total_cmp(&one.0));
    let parts: Vec<_> = parts.into_iter().map(|(_, text)| text).collect();
    format!("memory {}", parts.join("   "))
}

/// Viewers and load of each shard, the busiest first if not all fit.
fn shards(look: &Look) -> Vec<String> {
    let shards = look.stats["shards"].as_array().into_iter().flatten();
    let figures = |(number, shard): (usize, &Value)| {
        let load = look.per_second(&format!("/shards/{number}/cpu_ms")) / 10.0;
        let viewers = shard["connections"].as_f64().unwrap_or_default();
        (number, viewers, load.min(100.0))
    };
    let mut all: Vec<_> = shards.enumerate().map(figures).collect();
    let most = SHARD_ROWS_MAX * SHARDS_A_ROW;
    if all.len() > most {
        all.sort_by(|one, other| other.2.total_cmp(&one.2));
    }
    let left_out = all.len().saturating_sub(most);
    all.truncate(most);
    let cell = |(number, viewers, load): &(usize, f64, f64)| {
        format!("shard {number:<3} {:>6} {load:>4.0} %", short(*viewers))
    };
    let mut lines: Vec<_> = all
        .chunks(SHARDS_A_ROW)
        .map(|row| row.iter().map(cell).collect::<Vec<_>>().join("    "))
        .collect();
    if left_out > 0 {
        lines.push(format!("and {left_out} shards with less CPU time"));
    }
    lines
}

/// The two lists, side by side.
fn rooms(look: &Look, columns: usize) -> Vec<String> {
    let half = columns.saturating_sub(2) / 2;
    let fit = |text: String| text.chars().take(half).collect::<String>();
    let row = |rooms: &Value, at: usize| {
        let room = rooms.get(at)?;
        let name = room["name"]
            .as_str()
            .or(room["id"].as_str())
            .unwrap_or_default();
        let viewers = room["viewers"].as_f64().unwrap_or_default();
        let rate = room["per_minute"].as_f64().unwrap_or_default();
        let (viewers, rate, name) = (short(viewers), short(rate), printable(name));
        Some(fit(format!("{viewers:>7} {rate:>7} {name}")))
    };
    let heading = |by: &str| fit(format!("{:>7} {:>7} ROOM, {by}", "VIEWERS", "PER MIN"));
    let two = |left: String, right: String| format!("{left:<half$}  {right}");
    let mut lines = vec![two(heading("largest"), heading("busiest"))];
    for at in 0.. {
        match (row(&look.by_viewers, at), row(&look.by_rate, at)) {
            (None, None) => break,
            (left, right) => lines.push(two(left.unwrap_or_default(), right.unwrap_or_default())),
        }
    }
    lines
}

/// A number in at most six characters.
fn short(number: f64) -> String {
    let mut scaled = number;
    for unit in ["", "k", "M", "G", "T"] {
        if scaled < 999.5 {
            return match unit {
                "" if scaled < 9.95 && scaled.fract() > 0.0 => format!("{scaled:.1}"),
                "" => format!("{scaled:.0}"),
                _ if scaled < 99.95 => format!("{scaled:.1}{unit}"),
                _ => format!("{scaled:.0}{unit}"),
            };
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.0}P")
}

#[cfg(test)]
mod tests {
    use super::short;

    /// Goal: a number takes six characters at most, and two digits of it at least are right.
    #[test]
    fn numbers_are_short() {
        for (number, shown) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (12.0, "12"),
            (999.4, "999"),
            (999.9, "1.0k"),
            (12_345.0, "12.3k"),
            (999_949.0, "1.0M"),
            (123_456_789.0, "123M"),
            (1e12, "1.0T"),
        ] {
            assert_eq!(short(number), shown);
        }
    }
}
