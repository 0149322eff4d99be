// Replaces what is shown when the folder of runs has changed. Without scripts the page reloads every ten seconds.
"use strict";
const status = document.getElementById("connection");
const follow = async () => {
  const live = document.getElementById("live");
  try {
    const signature = await (await fetch("/signature")).text();
    if (signature !== live.dataset.signature) {
      const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
      live.replaceWith(page.getElementById("live"));
    }
    status.textContent = `Follows the folder of runs; looked at ${new Date().toLocaleTimeString()}.`;
  } catch {
    status.textContent = "The server does not answer any more.";
  }
  setTimeout(follow, 2000);
};
setTimeout(follow, 2000);
