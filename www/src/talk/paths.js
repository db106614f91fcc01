// Names for files that are stored beside others. Pure.

/** `folder/name`, or with a number before the ending when there is such a file already. */
export function freePath(entries, folder, name) {
  const dot = name.lastIndexOf('.');
  const [stem, ending] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
  for (let number = 1; ; number += 1) {
    const path = `${folder}/${number === 1 ? name : `${stem} (${number})${ending}`}`;
    if (!Object.hasOwn(entries, path)) return path;
  }
}
