// Loaded in the head: the theme stands before anything is painted.
(() => {
  const kept = (() => { try { return localStorage.getItem("im-theme"); } catch { return null; } })();
  const wanted = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = kept === "dark" || kept === "light" ? kept : wanted;
})();
