// Starts the page, and the page's worker: the same program runs in both.
//
// The names of the program's two files carry a hash of their content. The page finds them in the preload links of
// index.html; the worker is told by the page in its first message.
const start = async ({ js, wasm }) => {
  const program = await import(js);
  await program.default({ module_or_path: wasm });
};

if (typeof document === "undefined") {
  // Messages that come while the program loads wait for it.
  const early = [];
  const keep = (e) => (e.data?.wasm ? start(e.data).then(() => {
    self.removeEventListener("message", keep);
    for (const data of early) self.dispatchEvent(new MessageEvent("message", { data }));
  }) : early.push(e.data));
  self.addEventListener("message", keep);
} else {
  start({
    js: document.querySelector("link[rel=modulepreload]").href,
    wasm: document.querySelector("link[rel=preload][as=fetch]").href,
  });
}
