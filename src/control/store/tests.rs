//! A disk that fails: at each single operation, once and for good, before and after it took effect.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;

/// When the disk fails.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Operations that change something and still work.
    good: usize,
    /// Then so many fail.
    bad: usize,
    /// Whether a failing operation takes effect all the same.
    late: bool,
}

#[derive(Debug)]
struct Medium {
    bytes: InMemoryBackend,
    plan: Mutex<Plan>,
}

impl Medium {
    fn new() -> Arc<Self> {
        let good = Plan {
            good: usize::MAX,
            bad: 0,
            late: false,
        };
        Arc::new(Self {
            bytes: InMemoryBackend::new(),
            plan: Mutex::new(good),
        })
    }

    fn plan(&self, plan: Plan) {
        *self.plan.lock().expect("no test panics with it") = plan;
    }

    /// Does an operation that changes something, if the plan has it.
    fn change(&self, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut plan = self.plan.lock().expect("no test panics with it");
        if plan.good > 0 {
            plan.good -= 1;
            return change();
        }
        if plan.bad == 0 {
            return change();
        }
        plan.bad -= 1;
        if plan.late {
            change()?;
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "the test's disk is full",
        ))
    }
}

/// One opening of the medium; it outlives each.
#[derive(Debug)]
struct Opened(Arc<Medium>);

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        self.0.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change(|| self.0.bytes.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.change(|| self.0.bytes.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.change(|| self.0.bytes.write(offset, data))
    }
}

fn open(medium: &Arc<Medium>) -> Result<Disk, StoreError> {
    let medium = Arc::clone(medium);
    Disk::open(move || {
        let opened = Opened(Arc::clone(&medium));
        Ok(Builder::new().create_with_backend(opened)?)
    })
}

type Content = BTreeMap<String, Vec<u8>>;

fn content(disk: &Disk) -> Content {
    let found = disk.read_all().expect("the disk is good again");
    let rooms = found
        .into_iter()
        .filter(|(table, _, _)| *table == Table::Rooms);
    rooms.map(|(_, id, value)| (id, value)).collect()
}

/// Three groups of writes: new records, a change with a removal, and one that undoes another.
fn groups() -> [Vec<Write>; 3] {
    let write = |id: &str, value: Option<&str>| Write {
        table: Table::Rooms,
        id: id.to_owned(),
        value: value.map(|value| value.repeat(300).into_bytes()),
    };
    [
        vec![
            write("a", Some("1")),
            write("b", Some("2")),
            write("c", Some("3")),
        ],
        vec![
            write("a", Some("4")),
            write("b", None),
            write("a", Some("5")),
        ],
        vec![
            write("d", Some("6")),
            write("d", None),
            write("c", Some("7")),
        ],
    ]
}

fn apply(content: &mut Content, writes: &[Write]) {
    for Write { id, value, .. } in writes {
        match value {
            Some(value) => drop(content.insert(id.clone(), value.clone())),
            None => drop(content.remove(id)),
        }
    }
}

/// Goal: whatever operation of the disk fails, and whether or not it took effect: what was acknowledged
/// is there, what was refused is not, and the next write after the failure works.
/// Method: count the operations of a good run, then fail each of them, for one to three in a row.
#[test]
fn a_refused_write_has_no_effect_and_an_acknowledged_one_stays() {
    let counted = Medium::new();
    let mut disk = open(&counted).expect("opens");
    let many = usize::MAX / 2;
    counted.plan(Plan {
        good: many,
        bad: 0,
        late: false,
    });
    for group in groups() {
        assert!(disk.commit(&group));
    }
    let operations = many - counted.plan.lock().expect("alone").good;
    assert!(operations > 9, "only {operations} operations were seen");

    let (mut refused, mut taken_back) = (0, 0);
    for good in 0..operations {
        for (bad, late) in [
            (1, false),
            (1, true),
            (2, false),
            (2, true),
            (3, true),
            (50, false),
        ] {
            let medium = Medium::new();
            let mut disk = open(&medium).expect("opens");
            let mut expected = Content::new();
            medium.plan(Plan { good, bad, late });
            for group in groups() {
                if disk.commit(&group) {
                    apply(&mut expected, &group);
                } else {
                    refused += 1;
                }
            }
            medium.plan(Plan {
                good: usize::MAX,
                bad: 0,
                late: false,
            });
            let last = vec![Write {
                table: Table::Rooms,
                id: "last".to_owned(),
                value: Some(b"written once the disk is good".to_vec()),
            }];
            let before = disk.commits;
            assert!(disk.commit(&last), "good {good}, bad {bad}, late {late}");
            taken_back += usize::from(disk.commits > before + 1);
            apply(&mut expected, &last);
            assert_eq!(
                content(&disk),
                expected,
                "good {good}, bad {bad}, late {late}"
            );
            drop(disk);
            let again = open(&medium).expect("opens again");
            assert_eq!(
                content(&again),
                expected,
                "good {good}, bad {bad}, late {late}"
            );
        }
    }
    assert!(refused > operations, "only {refused} writes were refused");
    assert!(
        taken_back > 0,
        "no refused commit was on disk: the case is not covered"
    );
}
