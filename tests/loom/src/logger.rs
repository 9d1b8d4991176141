//! Models of the ring of log records: whole records only, none lost that was taken in, none waited for.
//! Under loom a slot holds 8 bytes, and a record is two slots at most.

#[path = "../../../kio/src/logger/ring.rs"]
mod ring;

use loom::sync::Arc;
use loom::thread;

use self::ring::Records;
use super::remote::Bell;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn take_all<const N: usize>(records: &Records<N>, into: &mut Vec<Vec<u8>>) {
    records.take(|text| {
        into.push(text.to_vec());
        true
    });
}

#[test]
fn records_of_two_threads_are_whole_and_each_is_taken_or_refused() {
    check(|| {
        let records = Arc::new(Records::<2>::new());
        let writer = Arc::clone(&records);
        // Two slots each: in a ring of two, the second must find the first taken whole.
        let thread = thread::spawn(move || u64::from(writer.push(b"aaaaaaaaaaaaaaa")));
        let mine = u64::from(records.push(b"bb"));
        let mut taken = Vec::new();
        take_all(&records, &mut taken);
        let pushed = mine + thread.join().unwrap();
        take_all(&records, &mut taken);
        assert_eq!(taken.len() as u64, pushed);
        assert_eq!(pushed + records.refused(), 2);
        assert!(taken.iter().all(|text| text == b"aaaaaaaaaaaaaaa" || text == b"bb"), "{taken:?}");
        assert_eq!(records.head(), records.tail());
    });
}

#[test]
fn one_thread_s_records_keep_their_order_round_the_ring() {
    check(|| {
        let records = Arc::new(Records::<2>::new());
        let writer = Arc::clone(&records);
        let thread = thread::spawn(move || {
            let pushed = [&b"1"[..], b"two slots", b"3"].map(|text| writer.push(text));
            pushed.iter().filter(|pushed| **pushed).count()
        });
        let mut taken = Vec::new();
        take_all(&records, &mut taken);
        take_all(&records, &mut taken);
        let pushed = thread.join().unwrap();
        take_all(&records, &mut taken);
        assert_eq!(taken.len(), pushed);
        let order = |text: &Vec<u8>| [&b"1"[..], b"two slots", b"3"].iter().position(|t| t == text);
        let places: Vec<_> = taken.iter().map(|text| order(text).expect("a whole one")).collect();
        assert!(places.is_sorted(), "{places:?}");
    });
}

#[test]
fn two_who_take_give_each_record_once() {
    check(|| {
        let records = Arc::new(Records::<2>::new());
        assert!(records.push(b"1"));
        let other = Arc::clone(&records);
        let thread = thread::spawn(move || {
            let mut taken = Vec::new();
            take_all(&other, &mut taken);
            taken.len()
        });
        let mut taken = Vec::new();
        take_all(&records, &mut taken);
        let also = thread.join().unwrap();
        take_all(&records, &mut taken);
        assert_eq!(taken.len() + also, 1);
    });
}

#[test]
fn a_record_is_never_lost_to_a_writer_that_goes_to_sleep() {
    check(|| {
        let shared = Arc::new((Records::<2>::new(), Bell::new()));
        let logs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            assert!(logs.0.push(b"1"));
            logs.1.must_ring() // then it wakes who sleeps
        });
        let (records, bell) = &*shared;
        bell.say_sleeping();
        let seen = records.has_any();
        let rung = thread.join().unwrap();
        assert!(seen || rung, "it sleeps, and nobody wakes it");
    });
}
