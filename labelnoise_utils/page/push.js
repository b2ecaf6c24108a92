// Why a cloud is pushed: a point under the reader's hand, its mirror twin, and the cloud that their sum moves. product.js,
// pen.js, stage.js, push_terms.js and push_pictures.js stand before this in the same function.
function makePush(root, settings, controls) {
  const [plane, runs, way] = root.querySelectorAll("canvas");
  const { lr, noiseStd, particles } = settings;
  const model = makeProduct();
  let state; // { values, seed, foot, distance, on, frozen, cloud }

  const read = (values) => {
    state.values = values;
    state.on = Object.fromEntries(TERMS.map((term) => [term, values[`term${term}`]]));
    state.frozen = values.noise === "frozen";
    state.foot = values.place;
    const most = farthest(state.foot);
    state.distance = Math.max(-most, Math.min(most, values.distance));
    if (state.distance !== values.distance) controls.set("distance", state.distance);
  };
  const startCloud = () => {
    state.cloud = makeCloud(model, state.foot, { lr, noiseStd, particles, seed: state.seed, frozen: state.frozen });
  };
  const restart = (values, seed) => {
    state = { seed };
    read(values);
    startCloud();
  };
  const change = (name, values) => {
    read(values);
    if (name !== "distance") startCloud();
    return true;
  };

  const grab = makeGrab(() => mirrorNow().pair[0].at);
  makeDraggable(plane, grab.near, (px, py) => {
    const scale = pushScale(grab.box());
    const [u, v] = [scale.u(px), scale.v(py)].map((x) => Math.max(0.02, Math.min(TOP, x)));
    const foot = footOf(u, v);
    const { across } = valleyAt(foot);
    const offered = { distance: (u - foot) * across[0] + (v - 1 / foot) * across[1], place: foot };
    for (const [name, value] of Object.entries(offered)) {
      root.dispatchEvent(new CustomEvent("dragged", { detail: { name, value } }));
    }
  });
  function makeGrab(where) {
    const box = () => makeBox(plane.clientWidth, plane.clientHeight, 40);
    const near = (px, py) => {
      const [scale, [u, v]] = [pushScale(box()), where()];
      return Math.hypot(px - scale.x(u), py - scale.y(v)) < 24;
    };
    return { box, near };
  }

  const mirrorNow = () => mirrored(model, state.foot, state.distance, lr, state.on);
  const hasPrediction = () => state.on["10"];

  const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;
  const pairInWords = (mirror) => {
    const { on, foot, distance } = state;
    if (Math.abs(distance) < 1e-9) return "On the valley there is no error and no step. Drag the point off it.";
    const [up, low] = [...mirror.pair].sort((a, b) => b.error - a.error);
    const errors = `Above the valley the error is ${signed(up.error)}, below it ${signed(low.error)}`;
    if (!on["11"]) return `${errors}. Without (1, 1) nothing leans: the sum has no part along the valley.`;
    if (Math.abs(foot - 1) < 0.015) return `${errors}. Here, at u = v, the gradient does not turn: neither step leans.`;
    return `${errors}, and the gradient has turned to opposite sides. So both steps lean to the same side of the dashed line, towards u = v: ` +
      `together ${inWords(Math.abs(mirror.along))} downhill along the valley.`;
  };
  const cloudInWords = () => {
    const { on, cloud, frozen, foot } = state;
    const [, , lost] = cloud.mean();
    const moved = wayBetween(foot, cloud.foot);
    const after = `After ${count(cloud.t)} steps`;
    if (frozen) {
      return `${after} with frozen noise: a run keeps its label, ${inWords(1 - noiseStd)} or ${inWords(1 + noiseStd)}, falls into the valley ` +
        "of that label (dashed) and stops. No error is left, and nothing pushes.";
    }
    if (!on["00"]) return `${after} without the noise (0, 0): the runs stay on the valley, where there is no error. Nothing pushes.`;
    const walls = on["10"] ? "" : "Without (1, 0) no wall holds the runs: the cloud widens, and the push with it. ";
    const left = lost ? `${count(lost)} runs have left the picture. ` : "";
    if (!on["11"]) return `${after}: ${walls}${left}the cloud's mean has moved ${moved.toFixed(3)}; no push is predicted.`;
    const expected = on["10"] ? `, predicted ${wayBetween(foot, cloud.expected).toFixed(3)}` : "";
    const others = [on["01"] ? "" : "Without (0, 1) the mean moves as before and single runs scatter along the valley. ",
      on["20"] ? "" : "Without (2, 0), which points across, the mean moves as before. "].join("");
    return `${after}: ${walls}${left}${on["10"] ? others : ""}the cloud's mean, which adds up such sums, has moved ${moved.toFixed(3)} downhill${expected}.`;
  };

  return {
    restart, change,
    advance: (steps) => state.cloud.advance(steps, state.on),
    pace: () => (state.cloud.t < 60 ? 0.5 : Math.min(60, state.cloud.t / 90)),
    isOver: () => {
      const { cloud } = state;
      return cloud.t >= settings.horizon || cloud.mean()[2] > particles / 10;
    },
    draw: () => {
      const mirror = mirrorNow();
      const shared = { cloud: state.cloud, hasPrediction: hasPrediction() };
      const [one, two, three] = [clear(plane, 40), clear(runs, 40), clear(way, 8)];
      if (one) drawMirror(one, { ...state, mirror });
      const valleys = state.frozen ? [1 - noiseStd, 1 + noiseStd] : [];
      if (two) drawCloud(two, { ...shared, valleys });
      if (three) drawWay(three, shared);
    },
    words: () => `${pairInWords(mirrorNow())} ${cloudInWords()}`,
    labels: () => {
      const { pair, along } = mirrorNow();
      const [[u, v], [twinU, twinV]] = pair.map(({ at }) => at.map(inWords));
      const [meanU, meanV] = state.cloud.mean();
      const moved = wayBetween(state.foot, state.cloud.foot);
      return [
        `Plane of u and v with the valley uv = 1. The point at u = ${u}, v = ${v}, which can be dragged, and its mirror twin at ` +
          `u = ${twinU}, v = ${twinV}, each with its step as a blue arrow. The sum's part along the valley, a green arrow, is ` +
          `${inWords(Math.abs(along))} long${Math.abs(along) > 1e-9 ? " and points towards u = v" : ""}.`,
        `The same plane with ${count(particles)} runs as orange dots; their mean is at u = ${inWords(meanU)}, v = ${inWords(meanV)}.`,
        `Way of the mean downhill along the valley against steps: ${moved.toFixed(3)} after ${count(state.cloud.t)} steps.`,
      ];
    },
    report: () => {
      const { cloud, foot, distance } = state;
      return {
        t: cloud.t, foot, distance, mirror: mirrorNow(), u: [...cloud.u], v: [...cloud.v], mean: cloud.mean(),
        moved: wayBetween(foot, cloud.foot), expected: wayBetween(foot, cloud.expected),
      };
    },
  };
}

setUpAll("push", (root) => makeStage(root, makePush));
