//! What kio tells of a pool: each family once, with a sample of each worker.

use core::fmt::Display;

use super::counters::TOLD;
use super::text::Seconds;
use super::{Kind, Page, Usage};
use crate::error::Result;
use crate::net::SendHalf;
use crate::worker::{Core, Parts};

/// A pool's workers, as another thread may look at them.
#[derive(Clone, Copy)]
struct Workers {
    core: Core,
}

impl Workers {
    /// Each worker that runs, with its number.
    fn each(self) -> impl Iterator<Item = (usize, &'static Parts)> {
        let shared = self.core.parts().ok().map(Parts::shared);
        (0..self.core.workers())
            .filter_map(move |worker| Some((worker, shared?.peer(worker as u32)?)))
    }
}

/// Writes all of it.
pub(super) async fn write<S: SendHalf>(page: &mut Page<'_, S>, core: Core) -> Result<()> {
    let workers = Workers { core };
    page.family("kio_workers", Kind::Gauge, "Workers of the pool.").await?;
    page.sample("kio_workers", &[], core.workers()).await?;
    for (name, help, counter) in TOLD {
        let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
        page.family(name, kind, help).await?;
        for (worker, parts) in workers.each() {
            let value = counter(&parts.tasks.counters).get();
            page.sample(name, &[("worker", &worker)], value).await?;
        }
    }
    cpu(page, workers).await?;
    ops(page, workers).await?;
    turns(page, workers).await?;
    usage(page, workers, true).await?;
    usage(page, workers, false).await
}

async fn cpu<S: SendHalf>(page: &mut Page<'_, S>, workers: Workers) -> Result<()> {
    let name = "kio_cpu_seconds_total";
    let help = "CPU time of the worker's thread, the kernel's work on its behalf included.";
    page.family(name, Kind::Counter, help).await?;
    for (worker, parts) in workers.each() {
        page.sample(name, &[("worker", &worker)], Seconds(parts.stats().cpu_ns)).await?;
    }
    Ok(())
}

async fn ops<S: SendHalf>(page: &mut Page<'_, S>, workers: Workers) -> Result<()> {
    let name = "kio_ops_total";
    page.family(name, Kind::Counter, "Operations handed to the kernel, by kind.").await?;
    for (worker, parts) in workers.each() {
        for (op, count) in parts.tasks.counters.ops.read().iter() {
            page.sample(name, &[("worker", &worker), ("op", &op)], count).await?;
        }
    }
    Ok(())
}

async fn turns<S: SendHalf>(page: &mut Page<'_, S>, workers: Workers) -> Result<()> {
    let help = "How long turns of the loop took until the ready tasks were polled.";
    page.family("kio_turn_seconds", Kind::Histogram, help).await?;
    for (worker, parts) in workers.each() {
        let times = parts.tasks.counters.turn_times.read();
        let mut below = 0;
        for (bound, count) in times.buckets() {
            below += count;
            let seconds = bound.map(|bound| Seconds(bound.as_nanos() as u64));
            let le: &dyn Display = seconds.as_ref().map_or(&"+Inf", |seconds| seconds);
            let labels: &[(&str, &dyn Display)] = &[("worker", &worker), ("le", le)];
            page.sample("kio_turn_seconds_bucket", labels, below).await?;
        }
        let worker: &[(&str, &dyn Display)] = &[("worker", &worker)];
        page.sample("kio_turn_seconds_sum", worker, Seconds(times.sum_ns)).await?;
        page.sample("kio_turn_seconds_count", worker, below).await?;
    }
    let name = "kio_turn_longest_seconds";
    page.family(name, Kind::Gauge, "The longest turn of the loop.").await?;
    for (worker, parts) in workers.each() {
        let longest = parts.tasks.counters.turn_times.read().longest_ns;
        page.sample(name, &[("worker", &worker)], Seconds(longest)).await?;
    }
    Ok(())
}

/// A family of [`usage`]: its name of tasks, its name of other tables, kind, help, number.
type Column = (&'static str, &'static str, Kind, &'static str, fn(&Usage) -> u64);

const COLUMNS: [Column; 4] = [
    ("kio_task_slots", "kio_table_size", Kind::Gauge, "How many there are.", |u| u.size),
    ("kio_task_slots_used", "kio_table_used", Kind::Gauge, "How many are in use.", |u| u.used),
    (
        "kio_task_slots_used_peak",
        "kio_table_used_peak",
        Kind::Gauge,
        "The most that were in use at once.",
        |u| u.peak,
    ),
    (
        "kio_task_slots_waits_total",
        "kio_table_waits_total",
        Kind::Counter,
        "How often somebody began to wait for one, or was refused one.",
        |u| u.waits,
    ),
];

async fn usage<S: SendHalf>(page: &mut Page<'_, S>, workers: Workers, tasks: bool) -> Result<()> {
    for (of_tasks, of_tables, kind, help, number) in COLUMNS {
        let (name, label) = if tasks { (of_tasks, "task") } else { (of_tables, "table") };
        page.family(name, kind, help).await?;
        for (worker, parts) in workers.each() {
            let all = || parts.usage(parts.config()).filter(|usage| usage.is_task == tasks);
            for (i, usage) in all().enumerate() {
                // Names are the user's, and two may be alike (a task of his called `spawn`).
                let before = all().take(i).filter(|other| other.name == usage.name).count();
                let called = Called { name: usage.name, before };
                let labels: &[(&str, &dyn Display)] = &[("worker", &worker), (label, &called)];
                page.sample(name, labels, number(&usage)).await?;
            }
        }
    }
    Ok(())
}

/// A name, told from those before it that are alike.
struct Called {
    name: &'static str,
    before: usize,
}

impl Display for Called {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.before {
            0 => f.write_str(self.name),
            before => write!(f, "{}#{}", self.name, before + 1),
        }
    }
}
