//! A trace as Chrome's JSON, which Perfetto opens: a track a worker with its turns and polls, one an
//! operation from SQE to CQE, and an arrow from a wake by a completion or a task to the poll that it
//! brought about.

use std::collections::BTreeMap;
use std::io::{Result, Write};

use super::event::{Event, Kind};
use crate::metrics::Op;

/// The process that the tracks are of, in the viewer.
const PROCESS: u32 = 1;

/// Writes the events of all workers.
pub(crate) fn write<E: Iterator<Item = Event>>(
    pool: &str,
    workers: impl Iterator<Item = E>,
    to: &mut dyn Write,
) -> Result<()> {
    let workers: std::vec::Vec<std::vec::Vec<Event>> = workers.map(Iterator::collect).collect();
    let begin = workers.iter().filter_map(|events| events.first()).map(|event| event.ns).min();
    let mut out = Out { to, first: true, begin: begin.unwrap_or(0) };
    // No `displayTimeUnit`: of a file that says "ns" there, some versions of Perfetto take the times
    // themselves for nanoseconds.
    write!(out.to, "{{\"traceEvents\":[")?;
    out.name("process_name", 0, pool)?;
    for (worker, events) in workers.iter().enumerate() {
        let worker = worker as u32;
        out.name("thread_name", worker, &std::format!("worker {worker}"))?;
        Track { worker, ..Track::default() }.write(events, &mut out)?;
    }
    writeln!(out.to, "\n]}}")
}

struct Out<'a> {
    to: &'a mut dyn Write,
    first: bool,
    begin: u64,
}

impl Out<'_> {
    fn open(&mut self, phase: &str, worker: u32, name: &str) -> Result<()> {
        let comma = if core::mem::take(&mut self.first) { "" } else { "," };
        write!(self.to, "{comma}\n{{\"ph\":\"{phase}\",\"pid\":{PROCESS},\"tid\":{worker}")?;
        // An end without a name ends what began last; by a name, were it empty, that would be looked for.
        if name.is_empty() {
            return Ok(());
        }
        write!(self.to, ",\"name\":")?;
        self.string(name)
    }

    fn string(&mut self, text: &str) -> Result<()> {
        write!(self.to, "\"")?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.to, "\\{c}")?,
                c if c.is_control() => write!(self.to, "\\u{:04x}", u32::from(c))?,
                c => write!(self.to, "{c}")?,
            }
        }
        write!(self.to, "\"")
    }

    fn name(&mut self, what: &str, worker: u32, name: &str) -> Result<()> {
        self.open("M", worker, what)?;
        write!(self.to, ",\"args\":{{\"name\":")?;
        self.string(name)?;
        write!(self.to, "}}}}")
    }

    /// An event at its time, with further members, each with its comma before it.
    fn event(&mut self, phase: &str, worker: u32, name: &str, ns: u64, more: &str) -> Result<()> {
        self.open(phase, worker, name)?;
        let ns = ns - self.begin;
        write!(self.to, ",\"ts\":{}.{:03}{more}}}", ns / 1000, ns % 1000)
    }
}

/// What is open on a worker's track. The oldest events are overwritten, so ends may come without their
/// begins: those are left out.
#[derive(Default)]
struct Track {
    worker: u32,
    /// The slice that is open, `taking`, a poll or `enter`; they do not nest, but for polls in a take.
    open: std::vec::Vec<Kind>,
    /// Operations in the kernel, by what they were called when they were submitted.
    ops: BTreeMap<u64, &'static str>,
    /// Wakes that no poll has answered: task, and the arrow's number.
    wakes: BTreeMap<u32, u64>,
    arrows: u64,
}

impl Track {
    fn write(&mut self, events: &[Event], out: &mut Out<'_>) -> Result<()> {
        use std::format;
        for event in events {
            let Event { ns, kind, subject, name, id, result, more } = *event;
            let worker = self.worker;
            let task = || format!("{name}#{subject}");
            let op = format!(",\"cat\":\"op\",\"id\":\"{worker}:{id:x}\"");
            match kind {
                Kind::Spawn | Kind::End => {
                    let what = if kind == Kind::Spawn { "spawn" } else { "end" };
                    out.event("i", worker, &format!("{what} {}", task()), ns, ",\"s\":\"t\"")?;
                }
                Kind::Wake => {
                    out.event("i", worker, &format!("wake {}", task()), ns, ",\"s\":\"t\"")?;
                    // An arrow begins in a slice, or Perfetto reports it as an error: not at a wake by a
                    // timer or by another thread, which come between the slices.
                    if !self.open.is_empty() {
                        self.arrows += 1;
                        // Below 2^53, so that viewers in JavaScript tell all apart.
                        let arrow = u64::from(worker) << 40 | self.arrows;
                        self.wakes.insert(subject, arrow);
                        let of = format!(",\"cat\":\"wake\",\"id\":{arrow}");
                        out.event("s", worker, "wake", ns, &of)?;
                    }
                }
                Kind::Poll => {
                    self.open.push(kind);
                    out.event("B", worker, &task(), ns, ",\"cat\":\"poll\"")?;
                    if let Some(arrow) = self.wakes.remove(&subject) {
                        let of = format!(",\"cat\":\"wake\",\"id\":{arrow},\"bp\":\"e\"");
                        out.event("f", worker, "wake", ns, &of)?;
                    }
                }
                Kind::Take | Kind::Enter => {
                    self.open.push(kind);
                    let what = match (kind, subject) {
                        (Kind::Take, _) => "completions",
                        (_, 0) => "enter",
                        _ => "enter, sleep",
                    };
                    out.event("B", worker, what, ns, ",\"cat\":\"loop\"")?;
                }
                Kind::PollEnd | Kind::TakeEnd | Kind::EnterEnd => {
                    if self.open.pop().is_some() {
                        out.event("E", worker, "", ns, "")?;
                    }
                }
                Kind::Submit => match self.ops.contains_key(&id) {
                    // A cancel has the number of what it cancels, whose begin may be overwritten.
                    true => out.event("n", worker, name, ns, &op)?,
                    false if name == Op::name(Op::Cancel as u8) => {}
                    false => {
                        self.ops.insert(id, name);
                        out.event("b", worker, name, ns, &op)?;
                    }
                },
                Kind::Complete => {
                    let Some(&name) = self.ops.get(&id) else { continue };
                    let args = format!("{op},\"args\":{{\"result\":{result}}}");
                    out.event("n", worker, name, ns, &args)?;
                    if !more {
                        self.ops.remove(&id);
                        out.event("e", worker, name, ns, &op)?;
                    }
                }
            }
        }
        Ok(())
    }
}
