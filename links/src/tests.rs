use super::*;

const FRAME: usize = 700;

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Sends packets across two links of a profile, one every `every`. The time that each took, or `None` if it was lost.
fn cross(profile: &Profile, packets: u32, every: Duration, bytes: usize) -> Vec<Option<f64>> {
    let (mut sender, mut receiver) = (Link::new(profile, 1), Link::new(profile, 2));
    let mut fate = |sent| Some(ms(receiver.down(sender.up(sent, bytes).at?, bytes).at? - sent));
    (0..packets).map(|n| fate(every * n)).collect()
}

fn built_in(name: &str) -> Profile {
    Profile::load(name).unwrap()
}

fn percentile(fates: &[Option<f64>], part: f64) -> f64 {
    let mut delays: Vec<_> = fates.iter().flatten().copied().collect();
    delays.sort_by(f64::total_cmp);
    delays[(part * (delays.len() - 1) as f64) as usize]
}

fn lost(fates: &[Option<f64>]) -> f64 {
    fates.iter().filter(|fate| fate.is_none()).count() as f64 / fates.len() as f64
}

#[track_caller]
fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{what}: {value}, expected {expected} ± {tolerance}");
}

const SOON: Duration = Duration::from_millis(20);

#[test]
fn every_built_in_profile_is_valid_and_says_where_its_figures_come_from() {
    for (name, _) in BUILTIN {
        let profile = built_in(name);
        assert!(!profile.description.is_empty() && !profile.source.is_empty(), "{name}");
    }
}

#[test]
fn the_default_is_perfect() {
    assert!(cross(&Profile::default(), 1000, SOON, FRAME).iter().all(|fate| *fate == Some(0.0)));
}

#[test]
fn wifi_takes_30_ms_give_or_take_20_and_loses_2_percent() {
    let fates = cross(&built_in("wifi"), 50_000, SOON, FRAME);
    assert_near("p50", percentile(&fates, 0.5), 30.0, 2.0);
    assert!(percentile(&fates, 0.0) >= 10.0 && percentile(&fates, 0.999) <= 52.0);
    assert_near("lost", lost(&fates), 0.02, 0.003);
}

#[test]
fn busy_wifi_loses_5_percent_in_bursts_of_80_ms() {
    let fates = cross(&built_in("wifi_busy"), 100_000, SOON, FRAME);
    assert_near("lost", lost(&fates), 0.05, 0.006);
    let ends = fates.windows(2).filter(|pair| pair[0].is_none() && pair[1].is_some()).count();
    let length = lost(&fates) * fates.len() as f64 / ends as f64;
    // A burst of 80 ms on average, which begins somewhere between two packets, and may hold none.
    assert_near("packets of a burst", length, 1.0 / (1.0 - (-20.0_f64 / 80.0).exp()), 0.6);
}

#[test]
fn a_dozing_radio_has_the_measured_round_trips() {
    // The probe was a wired host, every five seconds: only one of the ends dozes.
    let mut link = Link::new(&built_in("wifi_power_save"), 1);
    let probes = (0..20_000).map(|n| {
        let sent = Duration::from_secs(5) * n;
        let arrived = link.down(sent, 84).at?;
        Some(ms(link.up(arrived, 84).at? - sent))
    });
    let fates: Vec<_> = probes.collect();
    assert!((50.0..=130.0).contains(&percentile(&fates, 0.5)), "{}", percentile(&fates, 0.5));
    assert!((375.0..=555.0).contains(&percentile(&fates, 0.9)), "{}", percentile(&fates, 0.9));
    assert!((800.0..=2000.0).contains(&percentile(&fates, 0.99)), "{}", percentile(&fates, 0.99));
    assert_eq!(lost(&fates), 0.0);
}

#[test]
fn roaming_has_outages_of_300_ms_to_5_s() {
    let mut link = Link::new(&built_in("roaming"), 7);
    let every = Duration::from_millis(10);
    let fates: Vec<_> = (0..200_000).map(|n| link.up(every * n, FRAME).at.is_some()).collect();
    let silences: Vec<_> =
        fates.chunk_by(|a, b| a == b).filter(|run| !run[0] && run.len() > 3).map(<[_]>::len).collect();
    assert!(silences.len() > 80, "{}", silences.len());
    assert!(silences.iter().all(|len| (28..=502).contains(len)), "{silences:?}");
    assert!(silences.iter().any(|len| *len < 100) && silences.iter().any(|len| *len > 400));
}

#[test]
fn both_directions_of_a_radio_have_their_outages_at_the_same_time() {
    let mut link = Link::new(&Profile { up: Lane::default(), down: Lane::default(), ..built_in("roaming") }, 7);
    for n in 0..20_000 {
        let now = Duration::from_millis(10) * n;
        assert_eq!(link.up(now, FRAME).at, link.down(now, FRAME).at);
    }
}

#[test]
fn a_thin_link_carries_its_rate_and_drops_what_its_queue_cannot_hold() {
    // Twice the rate.
    let every = Duration::from_secs_f64(FRAME as f64 * 8.0 / 512_000.0);
    let fates = cross(&built_in("thin_256"), 5000, every, FRAME);
    assert_near("lost", lost(&fates), 0.5, 0.02);
    // The second link has nothing to queue, but sends each packet once more.
    let transmission = FRAME as f64 * 8.0 / 256.0;
    assert_near("p50", percentile(&fates, 0.5), 200.0 + 20.0 + transmission, 20.0);
}

#[test]
fn an_idle_dsl_uplink_takes_the_time_of_the_packet() {
    let fates = cross(&built_in("dsl"), 1000, Duration::from_millis(100), 1500);
    assert_near("p50", percentile(&fates, 0.5), 20.0 + 12.0 + 0.75, 1.5);
}

#[test]
fn far_takes_200_ms_and_loses_5_percent() {
    let fates = cross(&built_in("far"), 50_000, SOON, FRAME);
    assert_near("p50", percentile(&fates, 0.5), 200.0, 1.0);
    assert_near("lost", lost(&fates), 0.05, 0.005);
}

#[test]
fn packets_overtake_each_other_only_where_the_profile_says_so() {
    let overtakes = |reorder| {
        let lane = Lane { latency_ms: 50.0, jitter_ms: 40.0, reorder, ..Lane::default() };
        let mut link = Link::new(&Profile { up: lane, ..Profile::default() }, 3);
        let arrivals: Vec<_> = (0..1000).map(|n| link.up(Duration::from_millis(n), FRAME).at.unwrap()).collect();
        arrivals.windows(2).filter(|pair| pair[1] < pair[0]).count()
    };
    assert_eq!(overtakes(false), 0);
    assert!(overtakes(true) > 300);
}

#[test]
fn a_duplicate_comes_out_too() {
    let lane = Lane { duplicate: 0.1, ..Lane::default() };
    let mut link = Link::new(&Profile { down: lane, ..Profile::default() }, 3);
    let doubled = (0..10_000).filter(|n| link.down(Duration::from_millis(*n), FRAME).again.is_some()).count();
    assert_near("duplicates", doubled as f64, 1000.0, 100.0);
}

#[test]
fn equal_seeds_give_equal_fates() {
    for (name, _) in BUILTIN {
        let run = |seed| {
            let mut link = Link::new(&built_in(name), seed);
            (0..1000).map(|n| link.down(SOON * n, FRAME)).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5), "{name}");
        assert_ne!(run(5), run(6), "{name}");
    }
}

#[test]
fn a_mistake_in_a_profile_is_named() {
    let says = |text: &str, why: &str| {
        let error = Profile::parse("mine.toml", text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    says("[up]\nlatency = 3\n", "mine.toml:2: unknown field `latency`");
    says("[up]\nloss = 1.0\n", "mine.toml:2: up.loss = 1: expected 0 to less than 1");
    says(
        "[down]\nrate_kbit = 64\nqueue_bytes = 100\n",
        "mine.toml:3: down.queue_bytes = 100: expected at least 1500, with a rate",
    );
    says(
        "[up.burst]\nshare = 1.0\nmean_ms = 9\n",
        "mine.toml:2: up.burst.share = 1: expected more than 0, less than 1",
    );
    says("[radio.doze]\nbeacon_ms = 100\nheard = 0\nawake_ms = 0\n", "radio.doze.heard = 0: expected 0.01 to 1");
    says("[up]\nburst = { share = 2, mean_ms = 9 }\n", "mine.toml:2: up.burst.share = 2: expected more than 0");
    let missing = Profile::load("nowhere").unwrap_err().to_string();
    assert!(missing.contains("nowhere") && missing.contains("wifi_power_save"), "{missing}");
}

#[test]
fn from_another_seed_on_a_link_has_another_future_and_the_same_past() {
    for name in ["wifi_busy", "roaming"] {
        let profile = built_in(name);
        let fates = |seeds: [Option<u64>; 2]| {
            let mut link = Link::new(&profile, 1);
            let mut fates = Vec::new();
            for (half, seed) in (0u32..).zip(seeds) {
                let begin = Duration::from_secs(60) * half;
                seed.into_iter().for_each(|seed| link.reseed(begin, seed));
                fates.extend((0..3000).map(|n| link.up(begin + SOON * n, FRAME).at));
            }
            (fates[..3000].to_vec(), fates[3000..].to_vec())
        };
        let [plain, one, again, other] = [None, Some(1), Some(1), Some(2)].map(|seed| fates([None, seed]));
        assert!(plain.0 == one.0 && plain.0 == other.0, "{name}");
        assert!(one.1 == again.1 && one.1 != other.1 && one.1 != plain.1, "{name}");
    }
}
