//! Do nodes with few places become one mesh, and stay one?

use std::collections::BTreeSet;

use super::*;
use crate::engine::rng::Rng;

const NODES: usize = 25;

/// Nodes that start one after the other within two seconds; each knows `known` of those before it, or fewer.
fn grown(max_peers: usize, known: usize, seed: u8) -> Mesh {
    let mut rng = Rng::new([seed; 32]);
    let mut mesh = Mesh::new(Vec::new());
    for n in 0..NODES {
        let others: BTreeSet<_> = (0..known.min(n)).map(|_| rng.next() as usize % n).collect();
        let bootstrap_peers = others.into_iter().map(|other| address(other as u16 + 1)).collect();
        mesh.start(AviP2pConfig { max_peers, bootstrap_peers, enable_kad: true, ..config() });
        mesh.run_for(millis(80));
    }
    mesh
}

/// How many nodes are in one mesh with the first.
fn reached(mesh: &Mesh) -> usize {
    let (mut reached, mut next) = (BTreeSet::new(), vec![0]);
    while let Some(n) = next.pop() {
        if reached.insert(n) {
            next.extend(mesh.neighbours(n));
        }
    }
    reached.len()
}

#[test]
fn nodes_with_few_places_become_one_mesh_and_stay_one() {
    for (max_peers, known) in [(6, 2), (6, 3), (7, 2), (8, 1)] {
        let mut apart = Vec::new();
        for seed in 0..50 {
            let mut mesh = grown(max_peers, known, seed);
            mesh.run_for(secs(10));
            for second in 10..60 {
                if reached(&mesh) < NODES {
                    apart.push((seed, second));
                }
                mesh.run_for(secs(1));
            }
        }
        assert!(apart.is_empty(), "{max_peers} places, {known} known: apart in (seed, second) {apart:?}");
    }
}
