//! The page in short: what is to be reached and whether it is, and all in which a peer is ahead.

use std::fmt::Write as _;

use super::Page;
use super::cells::Cell;
use super::tables::{CPU, Column, P99, RATE, base, shown};
use crate::driven::Rounds;
use crate::series::Series;
use crate::stats;

/// What kio has beside the loop by hand and beside the best of the others.
pub(super) fn servers(page: &Page, text: &mut String) {
    let cells: Vec<&Cell> = page.http.iter().chain(&page.echo).collect();
    if cells.is_empty() {
        return;
    }
    text.push_str(
        "| | CPU a request, kio / limit | p99, kio / limit | requests a second, \
         kio / the best other | CPU a request, kio / the best other |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for cell in cells {
        let Ok(all) = &cell.series else { continue };
        let (Some(kio), Some(_)) = (base(all, "kio"), base(all, "limit")) else { continue };
        let best = |column: Column| {
            let others = all.iter().filter(|series| is_peer(series));
            let better = |a: &&Series, b: &&Series| {
                let order = column.median(a).total_cmp(&column.median(b));
                if column.less { order.reverse() } else { order }
            };
            let best = others.max_by(better);
            let shown = best.and_then(|other| {
                let ratio = column.ratio(kio, other, page.extent.pace.starts)?;
                Some(format!("{} ({})", shown(ratio), other.name))
            });
            shown.unwrap_or("-".into())
        };
        let [cpu, p99] = [CPU, P99].map(|column| beside(page, all, "kio", "limit", column));
        let (rate, best_cpu) = (best(RATE), best(CPU));
        let _ = writeln!(text, "| {} | {cpu} | {p99} | {rate} | {best_cpu} |", cell.title);
    }
    text.push('\n');
}

/// What kio's relay has beside each of the others.
pub(super) fn proxies(page: &Page, text: &mut String) {
    if page.proxy.iter().all(|cell| cell.series.is_err()) {
        return;
    }
    text.push_str(
        "| | CPU, kio / limit | CPU, kio / tokio | CPU, kio / haproxy | CPU, kio / nginx | rate, kio / \
         haproxy | rate, kio / nginx |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let columns = [
        ("limit", CPU),
        ("tokio", CPU),
        ("haproxy", CPU),
        ("nginx", CPU),
        ("haproxy", RATE),
        ("nginx", RATE),
    ];
    for cell in &page.proxy {
        let Ok(all) = &cell.series else { continue };
        let figures = columns.map(|(name, column)| beside(page, all, "kio", name, column));
        let _ = writeln!(text, "| {} | {} |", cell.title, figures.join(" | "));
    }
    text.push('\n');
}

/// What kio's TLS has beside tokio-rustls.
pub(super) fn tls(page: &Page, text: &mut String) {
    if page.tls.iter().all(|cell| cell.series.is_err()) {
        return;
    }
    text.push_str(
        "| in a second of the server's CPU | kio-tls | tokio-rustls | kio-tls / tokio-rustls |\n\
         | --- | --- | --- | --- |\n",
    );
    for cell in &page.tls {
        let Ok(all) = &cell.series else { continue };
        let (Some(kio), Some(tokio)) = (base(all, "kio-tls"), base(all, "tokio-rustls")) else {
            continue;
        };
        let [mine, its] = [kio, tokio].map(|series| 1e6 / CPU.median(series));
        // As many more in a second as one takes less.
        let ratio = CPU.ratio(tokio, kio, page.extent.pace.starts).map(shown).unwrap_or_default();
        let _ = writeln!(text, "| {} | {mine:.0} | {its:.0} | {ratio} |", cell.title);
    }
    text.push('\n');
}

/// All comparisons of which the whole interval favours a peer.
pub(super) fn ahead(page: &Page, text: &mut String) {
    let starts = page.extent.pace.starts;
    let mut rows = String::new();
    let cells = page.http.iter().chain(&page.echo).chain(&page.proxy).chain(&page.tls);
    for cell in cells {
        let Ok(all) = &cell.series else { continue };
        let own = if cell.base == "limit" { "kio" } else { "kio-tls" };
        let Some(kio) = base(all, own) else { continue };
        for column in [RATE, CPU, P99] {
            let peers = all.iter().filter(|series| is_peer(series)).filter_map(|peer| {
                let e = column.ratio(peer, kio, starts)?;
                let ahead = if column.less { e.high < 1.0 } else { e.low > 1.0 };
                ahead.then(|| format!("{} {}", peer.name, shown(e)))
            });
            row(&cell.title, column.name, peers.collect(), &mut rows);
        }
    }
    if let Some(Ok(all)) = &page.files {
        type Figures = fn(&Rounds) -> &Vec<f64>;
        let columns: [(&str, bool, Figures); 2] =
            [("rate", false, |rounds| &rounds.rate), ("CPU", true, |rounds| &rounds.cpu)];
        let kio = all.iter().find(|rounds| rounds.name == "kio");
        for (name, less, of) in columns {
            let others = all.iter().filter(|rounds| !is_own(&rounds.name));
            let peers = others.zip(std::iter::repeat(kio)).filter_map(|(peer, kio)| {
                let e = stats::estimate(&stats::ratios(of(peer), of(kio?)), starts);
                let ahead = if less { e.high < 1.0 } else { e.low > 1.0 };
                ahead.then(|| format!("{} {}", peer.name, shown(e)))
            });
            row("files", name, peers.collect(), &mut rows);
        }
    }
    let idle = |name: &str| {
        let costs = page.idle.iter().filter_map(|(known, cost)| Some((known, cost.as_ref().ok()?)));
        let costs = costs.map(|(known, cost)| (known.clone(), cost.each));
        costs.filter(|(known, _)| name.is_empty() || known == name).collect::<Vec<_>>()
    };
    if let Some((_, mine)) = idle("kio").first() {
        let peers = idle("").into_iter().filter(|(name, its)| !is_own(name) && its < mine);
        let peers = peers.map(|(name, its)| format!("{name} {:.3}", its / mine));
        row("idle connections", "resident bytes", peers.collect(), &mut rows);
    }
    let _ = match rows.is_empty() {
        true => writeln!(text, "## Where a peer is ahead\n\nNowhere beyond the intervals.\n"),
        false => writeln!(
            text,
            "## Where a peer is ahead\n\nIts figure over kio's, where the whole interval favours it. (A \
             rate with the load at its limit is the load's: then it says little.)\n\n\
             | | | peer / kio |\n| --- | --- | --- |\n{rows}"
        ),
    };
}

fn row(title: &str, figure: &str, peers: Vec<String>, rows: &mut String) {
    if !peers.is_empty() {
        let _ = writeln!(rows, "| {title} | {figure} | {} |", peers.join(", "));
    }
}

/// One server's column over another's, or a dash.
fn beside(page: &Page, all: &[Series], of: &str, to: &str, column: Column) -> String {
    let both = base(all, of).zip(base(all, to));
    let ratio = both.and_then(|(of, to)| column.ratio(of, to, page.extent.pace.starts));
    ratio.map_or("-".into(), shown)
}

fn is_peer(series: &Series) -> bool {
    !is_own(&series.name)
}

/// kio in its forms, and the yardstick.
fn is_own(name: &str) -> bool {
    name.starts_with("kio") || name.starts_with("limit")
}
