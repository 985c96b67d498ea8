//! Pages of a listing: `maxResults`, `nextToken`, newest update first.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::request::Answer;
use crate::control::arn::ResourceId;
use crate::control::input::Input;
use crate::control::input::pattern::ANY;
use crate::control::record::Record;
use crate::control::record_cache::{PageCursor, RecordCache};
use uproar_proto::base::limits::PAGE_ITEMS_MAX;

const TOKEN_CHARS_MAX: usize = 1024;

/// The requested page.
pub(super) struct Page<I> {
    after: Option<PageCursor<I>>,
    count_max: usize,
}

impl<I: ResourceId> Page<I> {
    /// Reads `maxResults` and `nextToken`.
    pub(super) fn read(input: &mut Input) -> Self {
        let count_max = input.integer("maxResults", 1..=PAGE_ITEMS_MAX);
        let token = input.text("nextToken", 0..=TOKEN_CHARS_MAX, ANY);
        let after = token.filter(|token| !token.is_empty()).and_then(|token| {
            let cursor = read_cursor(&token);
            if cursor.is_none() {
                input.fault(
                    "nextToken",
                    "must be one that this server returned; list again without it",
                );
            }
            cursor
        });
        let count_max = count_max.unwrap_or(PAGE_ITEMS_MAX);
        let count_max = usize::try_from(count_max).expect("at most 50");
        Self { after, count_max }
    }

    /// For fuzz targets.
    #[cfg(fuzzing)]
    pub(super) fn token(self) -> Option<String> {
        self.after.map(write_cursor)
    }

    /// The answer: the page's records under `member`.
    pub(super) fn answer<R: Record<Id = I>>(
        self,
        cache: &RecordCache<R>,
        member: &str,
        wanted: impl Fn(&R) -> bool,
        show: impl Fn(&R) -> Map<String, Value>,
    ) -> Answer {
        let (page, more) = cache.page(self.after, self.count_max, wanted);
        let mut answer = Map::new();
        if more && let Some(last) = page.last() {
            let token = write_cursor((last.header().updated_ms, last.id()));
            answer.insert("nextToken".to_owned(), token.into());
        }
        let shown: Vec<Value> = page.iter().map(|record| show(record).into()).collect();
        answer.insert(member.to_owned(), shown.into());
        (200, Some(answer.into()))
    }
}

fn write_cursor<I: ResourceId>((updated_ms, id): PageCursor<I>) -> String {
    URL_SAFE_NO_PAD.encode(format!("{updated_ms}:{id}"))
}

fn read_cursor<I: ResourceId>(token: &str) -> Option<PageCursor<I>> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (updated_ms, id) = text.split_once(':')?;
    Some((updated_ms.parse().ok()?, I::parse(id)?))
}
