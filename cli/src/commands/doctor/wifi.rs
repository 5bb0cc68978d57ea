//! Is a radio in the way of audio? Its power save, and how weak the signal is.

use std::path::Path;
use std::process::Command;

use super::interfaces::Interface;
use super::{note, ok};
use crate::line::Finding;

/// Below, frames are sent again and again (dBm).
const WEAK_DBM: f64 = -75.0;
const COST: &str = "while it is on, what comes in waits for a beacon: 100 ms often, 1 s at times";

pub(super) fn look(used: &[Interface]) -> Vec<Finding> {
    let folder = |name: &str| Path::new("/sys/class/net").join(name);
    let is_wifi = |interface: &&Interface| {
        interface.is_up() && ["wireless", "phy80211"].iter().any(|of| folder(&interface.name).join(of).exists())
    };
    let table = std::fs::read_to_string("/proc/net/wireless").unwrap_or_default();
    let of = |interface: &Interface| {
        let name = &interface.name;
        [Some(power_save(name, said_by_iw(name).as_deref())), signal(name, &table)]
    };
    used.iter().filter(is_wifi).flat_map(of).flatten().collect()
}

/// What the program `iw` says; `None` without it.
fn said_by_iw(name: &str) -> Option<String> {
    let iw = Command::new("iw").args(["dev", name, "get", "power_save"]).output().ok()?;
    iw.status.success().then(|| String::from_utf8_lossy(&iw.stdout).into_owned())
}

fn power_save(name: &str, said: Option<&str>) -> Finding {
    let state = said.and_then(|said| said.split_once("Power save:")).map(|(_, state)| state.trim());
    match state {
        Some("off") => ok("wifi", format!("{name}: power save is off")),
        Some("on") => {
            let advice = format!("`iw dev {name} set power_save off`; {COST}");
            note("wifi", format!("{name}: power save is on"), &advice)
        }
        _ => {
            let what = format!("{name}: whether power save is on cannot be known without the program `iw`");
            note("wifi", what, &format!("install `iw`, and see `iw dev {name} get power_save`; {COST}"))
        }
    }
}

/// The level of the signal in the table of the kernel: name, status, quality, level, noise.
fn signal(name: &str, table: &str) -> Option<Finding> {
    let of_interface = |line: &str| -> Option<f64> {
        let (found, figures) = line.split_once(':')?;
        let level = figures.split_whitespace().nth(2)?.trim_end_matches('.').parse().ok()?;
        (found.trim() == name).then_some(level)
    };
    // Some drivers have a scale of their own, above 0.
    let level = table.lines().find_map(of_interface).filter(|level| *level < 0.0)?;
    let what = format!("{name}: the signal has {level:.0} dBm");
    Some(match level < WEAK_DBM {
        true => note("wifi", what, "go nearer to the access point: frames are lost and late below -75 dBm"),
        false => ok("wifi", what),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Level;

    #[test]
    fn power_save_is_what_iw_says_and_unknown_without_it() {
        assert_eq!(power_save("wlan0", Some("Power save: off\n")).level, Level::Ok);
        let on = power_save("wlan0", Some("Power save: on\n"));
        assert!(on.level == Level::Note && on.advice.unwrap().contains("set power_save off"));
        for said in [None, Some("command failed: No such device (-19)")] {
            let unknown = power_save("wlan0", said);
            assert!(unknown.level == Level::Note && unknown.what.contains("cannot be known"), "{unknown:?}");
        }
    }

    #[test]
    fn a_weak_signal_is_noted() {
        let table = "Inter-| sta-|   Quality        |   Discarded packets\n face | tus | link level noise |  nwid  crypt\n \
                     wlan0: 0000   54.  -56.  -256        0      0\n wlan1: 0000   10.  -82.  -256        0      0\n \
                     wlan2: 0000   10.  40.  0        0      0\n";
        assert_eq!(signal("wlan0", table).unwrap().level, Level::Ok);
        assert_eq!(signal("wlan1", table).unwrap().level, Level::Note);
        assert_eq!((signal("wlan2", table).is_none(), signal("wlan", table).is_none()), (true, true));
    }
}
